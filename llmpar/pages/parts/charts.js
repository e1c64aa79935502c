// Pictures of numbers, drawn again for the width that they have. Each says in words what it shows.

const LOW = 110; // pixels that bars are high
const LANE = 16; // pixels for each worker
const MOST_LANES = 48;
const LEFT = 46; // pixels for what stands beside an axis
const BELOW = 20;

/** Return a figure whose picture is drawn by paint(width), and what it shows as a sentence. */
function figure(title, told, paint) {
  const frame = make("div", { class: "frame" });
  const node = make("figure", {}, make("figcaption", {}, make("strong", {}, title), " ", told), frame);
  let width = 0;
  new ResizeObserver(() => {
    if (frame.clientWidth === width || !frame.clientWidth) return;
    width = frame.clientWidth;
    const graphic = paint(width);
    setAll(graphic, { role: "img", "aria-label": `${title} ${told}` });
    frame.replaceChildren(graphic);
  }).observe(frame);
  return node;
}

/**
 * Return a picture of bars.
 *
 * heights: of the bars. from, to: what the axis below begins and ends with. format: writes a number of that axis.
 * hint(index): says what a bar is.
 */
function bars({ heights, from, to, format, hint }) {
  return (width) => {
    const graphic = draw("svg", { width, height: LOW + BELOW, viewBox: `0 0 ${width} ${LOW + BELOW}` });
    const most = Math.max(...heights, 1e-9);
    const room = width - LEFT;
    const step = room / heights.length;
    const gap = step > 4 ? 1 : 0;
    heights.forEach((value, index) => {
      if (!value) return;
      const height = Math.max(1, (value / most) * (LOW - 14));
      const bar = draw("rect", { class: "bar", x: LEFT + index * step, y: LOW - height, width: step - gap, height });
      bar.append(draw("title", {}, hint(index)));
      graphic.append(bar);
    });
    graphic.append(
      draw("text", { x: LEFT - 6, y: 20, "text-anchor": "end" }, brief(most)),
      draw("text", { x: LEFT - 6, y: LOW, "text-anchor": "end" }, "0"),
      draw("line", { class: "axis", x1: LEFT, x2: width, y1: LOW + 0.5, y2: LOW + 0.5 }),
    );
    addMarks(graphic, { width, top: LOW, from, to, format });
    return graphic;
  };
}

/** Write numbers below an axis. */
function addMarks(graphic, { width, top, from, to, format }) {
  const span = to - from;
  if (!(span > 0)) return;
  const step = roundStep(span, Math.max(2, Math.floor((width - LEFT) / 90)));
  for (let value = Math.ceil(from / step) * step; value <= to + step / 1e6; value += step) {
    const x = LEFT + ((value - from) / span) * (width - LEFT);
    const isLast = x > width - 30;
    graphic.append(draw("text", { x: isLast ? width : x, y: top + 15, "text-anchor": isLast ? "end" : "middle" }, format(value)));
  }
}

/**
 * Return a figure that shows how values are distributed; null if there are fewer than two, or all are 0.
 *
 * format: writes a value. range: [from, to] where that is fixed; else the last bar holds all beyond 99 %.
 */
function distribution(title, values, { format = short, range = null, count = 40, isWhole = false } = {}) {
  if (values.length < 2) return null;
  const ordered = Float64Array.from(values).sort();
  const most = ordered[ordered.length - 1];
  if (!range && !most) return null;
  const from = range ? range[0] : 0;
  let to = range ? range[1] : quantile(ordered, 0.99) || most;
  if (isWhole) {
    const each = Math.max(1, Math.ceil((to - from + 1) / count));
    count = Math.ceil((to - from + 1) / each);
    to = from + count * each;
  }
  const heights = new Array(count).fill(0);
  for (const value of ordered) heights[Math.max(0, Math.min(count - 1, Math.floor(((value - from) / (to - from)) * count)))]++;
  const edge = (index) => from + (index * (to - from)) / count;
  const told = `half at most ${format(quantile(ordered, 0.5))}, 95 % at most ${format(quantile(ordered, 0.95))}, the most ${format(most)}.`;
  const hint = (index) => {
    const isOpen = index === count - 1 && most > to;
    return `${format(edge(index))} ${isOpen ? "and more" : `to ${format(edge(index + 1))}`}: ${whole(heights[index])}`;
  };
  return figure(`${title}:`, told, bars({ heights, from, to, format, hint }));
}

/** Return a figure that shows how much came of spans at each time: [{end, amount}], the end in seconds from the first. */
function throughput(title, unit, spans, seconds) {
  const count = Math.max(1, Math.min(120, Math.ceil(seconds)));
  const each = seconds / count;
  const heights = new Array(count).fill(0);
  let sum = 0;
  for (const { end, amount } of spans) {
    heights[Math.min(count - 1, Math.floor(end / each))] += amount / each;
    sum += amount;
  }
  const told = `${short(sum / seconds)} ${unit} on average, in ${duration(seconds)}.`;
  const hint = (index) => `after ${duration(index * each)}: ${short(heights[index])} ${unit}`;
  return figure(`${title}:`, told, bars({ heights, from: 0, to: seconds, format: duration, hint }));
}

/**
 * Return a figure with a lane for each worker, darker where it had more to do; null if nothing took any time.
 *
 * spans: [{worker, start, end}], in seconds from the first.
 */
function lanes(title, spans, seconds) {
  const workers = [...new Set(spans.map(({ worker }) => worker))].sort((one, other) => one - other);
  const shown = workers.slice(0, MOST_LANES);
  const count = 160;
  const each = seconds / count;
  const busy = new Map(shown.map((worker) => [worker, new Float64Array(count)]));
  const numbers = new Map(shown.map((worker) => [worker, 0]));
  for (const { worker, start, end } of spans) {
    const lane = busy.get(worker);
    if (!lane) continue;
    numbers.set(worker, numbers.get(worker) + 1);
    const last = Math.min(count - 1, Math.floor(end / each));
    for (let at = Math.max(0, Math.floor(start / each)); at <= last; at++) {
      lane[at] += Math.max(0, Math.min(end, (at + 1) * each) - Math.max(start, at * each)) / each;
    }
  }
  const most = Math.max(...[...busy.values()].map((lane) => Math.max(...lane)));
  if (!most) return null; // answers that took no time, as an echo's
  const paint = (width) => {
    const top = shown.length * LANE;
    const graphic = draw("svg", { width, height: top + BELOW, viewBox: `0 0 ${width} ${top + BELOW}` });
    const step = (width - LEFT) / count;
    shown.forEach((worker, index) => {
      graphic.append(draw("text", { x: LEFT - 6, y: index * LANE + 12, "text-anchor": "end" }, worker));
      busy.get(worker).forEach((value, at) => {
        if (value < 0.005) return;
        const opacity = (0.2 + 0.8 * (value / most)).toFixed(2);
        const cell = draw("rect", { class: "bar", x: LEFT + at * step, y: index * LANE + 2, width: step + 0.3, height: LANE - 4, opacity });
        cell.append(draw("title", {}, `worker ${worker}, after ${duration(at * each)}: ${short(value)} at a time`));
        graphic.append(cell);
      });
    });
    addMarks(graphic, { width, top, from: 0, to: seconds, format: duration });
    return graphic;
  };
  const fewest = Math.min(...numbers.values());
  const largest = Math.max(...numbers.values());
  const range = fewest === largest ? whole(fewest) : `${whole(fewest)} to ${whole(largest)}`;
  const share = workers.length > 1 ? `${whole(workers.length)} with ${range} answers each` : `one, with ${range} answers`;
  const more = workers.length > shown.length ? ` The first ${shown.length} are shown.` : "";
  return figure(`${title}:`, `${share}; up to ${whole(Math.max(1, Math.round(most)))} at a time (darkest).${more}`, paint);
}

/** Put figures into the page one by one. paints: functions that return a figure, or null. */
async function showCharts(paints) {
  const section = document.getElementById("charts");
  const place = make("div", { class: "charts" });
  section.append(place);
  for (const paint of paints) {
    await pause();
    const found = paint();
    if (found) place.append(found);
    section.hidden = !place.childElementCount;
  }
}

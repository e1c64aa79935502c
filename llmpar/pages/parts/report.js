// The view of a run: each row is a piece with its answer.

const { settings, get } = readSettings();
const rows = [];
const REASONS = {
  stop: "ended by itself",
  length: "stopped at its limit",
  loop: "repeated itself",
  form: "is not of the form",
  error: "there is none",
  kept: "no model was asked",
  person: "given by a person",
  parts: "put together from parts",
};
let limit = settings.limit;

const isUnsure = (row) => get(row, "confidence") !== null && get(row, "confidence") < limit;
let hasConfidence = false;
const percent = (share) => `${short(100 * share)}\u00a0%`;
const counted = (number, noun) => `${whole(number)}\u00a0${noun}${number === 1 ? "" : "s"}`;

function badges(row) {
  const found = [];
  if (get(row, "error") !== null) found.push(badge("failed", "bad"));
  if (get(row, "cut")) found.push(badge("cut", "poor"));
  if (get(row, "reason") === "kept") found.push(badge("left as it was"));
  if (get(row, "origin")) found.push(badge(get(row, "origin")));
  if (get(row, "attempts") > 1) found.push(badge(`${get(row, "attempts")} attempts`, "poor"));
  if (isUnsure(row)) found.push(badge("unsure", "poor"));
  return found;
}

function drawCells(row) {
  const numbers = [];
  if (get(row, "confidence") !== null) numbers.push(`${percent(get(row, "confidence"))} sure`);
  if (get(row, "output_tokens")) numbers.push(counted(get(row, "output_tokens"), "token"));
  if (get(row, "seconds")) numbers.push(duration(get(row, "seconds")));
  return cellsOf({ place: get(row, "place"), texts: [get(row, "source"), get(row, "answer")], badges: badges(row), numbers });
}

/** Return a part of the page that is filled when it is opened first. */
function opened(title, fill) {
  const node = make("details", {}, make("summary", {}, title));
  node.addEventListener("toggle", () => node.append(...fill()), { once: true });
  return node;
}

function facts(row) {
  const pairs = [];
  const add = (name, value) => pairs.push([name, value]);
  add("How the answer ended", REASONS[get(row, "reason")] ?? get(row, "reason"));
  add("From", { store: "the store, as an earlier run left it", repeated: "an equal piece of this run" }[get(row, "origin")] ?? get(row, "origin"));
  add("Attempts", whole(get(row, "attempts")));
  add("Tokens", `${whole(get(row, "prompt_tokens"))} read, ${whole(get(row, "output_tokens"))} written`);
  if (get(row, "seconds")) add("Time", duration(get(row, "seconds")));
  if (get(row, "worker") !== null) add("Worker", String(get(row, "worker")));
  if (get(row, "confidence") !== null) add("Confidence", percent(get(row, "confidence")));
  if (get(row, "mean_logprob") !== null) {
    add("Log-probabilities", `${short(get(row, "mean_logprob"))} on average, ${short(get(row, "min_logprob"))} the least`);
  }
  for (const [label, share] of Object.entries(get(row, "probabilities") ?? {})) add(`Probability of ${label}`, percent(share));
  add("Model", get(row, "model"));
  add("Key in the store", get(row, "key"));
  return factsOf(pairs);
}

/** Return all attempts but the one that counts, each as it became the next one. */
function attempts(row) {
  const others = get(row, "others");
  const number = get(row, "attempts");
  if (number < 2) return [];
  if (!others || !others.length) return [make("p", { class: "quiet" }, "What the other attempts said was not kept.")];
  const last = get(row, "answer");
  const note = "What the next attempt left out is struck out, what it added is underlined.";
  return [make("p", { class: "quiet" }, note)].concat(others.map(([attempt, text, reason], index) => {
    const following = index + 1 < others.length ? others[index + 1][1] : last;
    const shown = following === null ? wholeText(text) : showChange(text, following);
    return titled(`Attempt ${attempt + 1} (${REASONS[reason] ?? reason})`, shown);
  }));
}

function drawItem(row) {
  const error = get(row, "error");
  const said = titled(error === null ? "Answer" : "Last answer, which would not do", wholeText(get(row, "answer")));
  const both = [titled("Source", wholeText(get(row, "source"))), said];
  const parts = [
    ...headOf({ place: get(row, "place"), badges: badges(row) }),
    ...(error === null ? [] : [make("p", {}, `Why it failed: ${error}`)]),
    make("div", { class: "both" }, ...both),
    ...attempts(row),
  ];
  if (get(row, "source") !== null && get(row, "answer") !== null) {
    parts.push(opened("The answer compared with its source, word by word", () => [showChange(get(row, "source"), get(row, "answer"))]));
  }
  if (get(row, "reasoning")) parts.push(opened("What the model wrote before its answer", () => [wholeText(get(row, "reasoning"))]));
  parts.push(facts(row));
  return parts;
}

const length = (name) => (row) => (get(row, name) === null ? null : get(row, name).length);
const value = (name) => (row) => get(row, name);
const kinds = () => [
  { name: "all", title: "All", has: () => true },
  { name: "failed", title: "Failed", has: (row) => get(row, "error") !== null },
  { name: "cut", title: "Cut", has: (row) => get(row, "cut") },
  { name: "retried", title: "Several attempts", has: (row) => get(row, "attempts") > 1 },
  { name: "kept", title: "Left as they were", has: (row) => get(row, "reason") === "kept" },
  { name: "store", title: "From the store", has: (row) => (get(row, "origin") ?? "").startsWith("store") },
  { name: "repeated", title: "Repeated", has: (row) => get(row, "origin") === "repeated" },
  { name: "unsure", title: "Unsure", has: isUnsure, stays: hasConfidence },
];
const orders = () => [
  { name: "document", title: "as in the documents" },
  ...(hasConfidence ? [{ name: "doubt", title: "least confidence first", valueOf: value("confidence") }] : []),
  { name: "seconds", title: "longest time first", valueOf: value("seconds"), falls: true },
  { name: "tokens", title: "most tokens written first", valueOf: value("output_tokens"), falls: true },
  { name: "attempts", title: "most attempts first", valueOf: value("attempts"), falls: true },
  { name: "source", title: "longest source first", valueOf: length("source"), falls: true },
  { name: "answer", title: "longest answer first", valueOf: length("answer"), falls: true },
];

/** Return what can be drawn of when answers came. */
function timeCharts() {
  const timed = rows.filter((row) => get(row, "finished") !== null && !get(row, "origin"));
  if (!timed.length) return [];
  const started = (row) => get(row, "finished") - (get(row, "seconds") ?? 0);
  const first = timed.reduce((least, row) => Math.min(least, started(row)), Infinity);
  const last = timed.reduce((most, row) => Math.max(most, get(row, "finished")), -Infinity);
  const seconds = Math.max(last - first, 1e-3);
  const spans = timed.map((row) => ({
    worker: get(row, "worker"),
    start: started(row) - first,
    end: get(row, "finished") - first,
    amount: get(row, "output_tokens") ?? 0,
  }));
  const placed = spans.filter(({ worker }) => worker !== null);
  return [
    () => throughput("Tokens written over time", "tokens a second", spans, seconds),
    () => throughput("Answers over time", "answers a second", spans.map((span) => ({ ...span, amount: 1 })), seconds),
    () => (placed.length ? lanes("Workers", placed, seconds) : null),
  ];
}

function valuesOf(found) {
  return rows.map(found).filter((number) => number !== null);
}

async function start() {
  await readRows(rows);
  hasConfidence = rows.some((row) => get(row, "confidence") !== null);
  await showCharts([
    ...timeCharts(),
    () => distribution("Length of sources, in characters", valuesOf(length("source")), { isWhole: true, format: whole }),
    () => distribution("Tokens of answers", valuesOf(value("output_tokens")), { isWhole: true, format: whole }),
    () => distribution("Time for an answer", valuesOf((row) => (get(row, "origin") ? null : get(row, "seconds"))), { format: duration }),
    () => distribution("Confidence", valuesOf(value("confidence")), { range: [0, 1], format: percent }),
  ]);
  const filters = showPieces({
    rows,
    none: "There are no pieces.",
    label: "Pieces: sources and answers",
    heads: ["Place", "Source", "Answer", "What became of it"],
    drawCells,
    drawItem,
    kinds: kinds(),
    textOf: (row) => [get(row, "source") ?? "", get(row, "answer") ?? "", get(row, "place"), get(row, "error") ?? ""],
    orders: orders(),
  });
  if (hasConfidence) filters.element.append(limitField(filters));
}

/** Return the field for the confidence below which an answer is unsure. */
function limitField(filters) {
  const input = make("input", { type: "number", id: "limit", min: 0, max: 100, step: 1, value: Math.round(100 * limit) });
  input.addEventListener("input", () => {
    limit = Number(input.value) / 100;
    filters.count();
    filters.apply();
  });
  return make("div", { class: "field" }, make("label", { for: "limit" }, "Unsure below (%)"), input);
}

offerTheme();
start();

// The view of a comparison: each row is a piece with the answers of two runs.

const { column } = readSettings();
const rows = [];

const get = (row, name) => row[column[name]] ?? null;

function badges(row) {
  const found = [];
  const badge = (text, tone) => found.push(make("span", { class: `badge ${tone}` }, text));
  if (get(row, "first_error") !== null) badge("A failed", "bad");
  if (get(row, "second_error") !== null) badge("B failed", "bad");
  if (get(row, "verdict") === "better") badge("better", "");
  if (get(row, "verdict") === "worse") badge("worse", "poor");
  if (get(row, "same")) badge("same", "");
  return found;
}

/** Return a number of both runs as "12 → 14", "" where there is none. */
function both(row, name, unit = "") {
  const [one, other] = [get(row, `first_${name}`), get(row, `second_${name}`)];
  if (one === null && other === null) return "";
  return `${[one, other].map((number) => (number === null ? "–" : short(number))).join(" → ")}${unit}`;
}

function drawCells(row) {
  const numbers = [both(row, "chrf", " chrF"), both(row, "confidence", " confidence")].filter(Boolean).join(" · ");
  return [
    make("span", { class: "cell place" }, quote(get(row, "place"))),
    make("span", { class: "cell source" }, clamped(get(row, "first"))),
    make("span", { class: "cell answer" }, clamped(get(row, "second"))),
    make("span", { class: "cell state" }, ...badges(row), make("span", { class: "quiet" }, numbers)),
  ];
}

function facts(row) {
  const pairs = [
    ["Why A failed", get(row, "first_error")],
    ["Why B failed", get(row, "second_error")],
    ["chrF", both(row, "chrf")],
    ["Confidence", both(row, "confidence")],
    ["Difference", `${short(100 * get(row, "change"))} %`],
  ].filter(([, value]) => value !== null && value !== "");
  return make("dl", { class: "facts" }, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, quote(value)))));
}

function drawItem(row) {
  const section = (title, text) => make("section", {}, make("h4", {}, title), told(text, { class: "text" }));
  const parts = [
    make("h3", {}, quote(get(row, "place"))),
    make("p", { class: "badges" }, ...badges(row)),
    section("Source", get(row, "source")),
    make("div", { class: "both" }, section("A", get(row, "first")), section("B", get(row, "second"))),
  ];
  if (get(row, "reference") !== null) parts.push(section("Reference", get(row, "reference")));
  if (!get(row, "same") && get(row, "first") !== null && get(row, "second") !== null) {
    const title = "From A to B: what B left out is struck out, what it added is underlined";
    parts.push(make("section", {}, make("h4", {}, title), showChange(get(row, "first"), get(row, "second"))));
  }
  parts.push(facts(row));
  return parts;
}

const value = (name) => (row) => get(row, name);
const gain = (name) => (row) => {
  const [one, other] = [get(row, `first_${name}`), get(row, `second_${name}`)];
  return one === null || other === null ? null : other - one;
};
const kinds = [
  { name: "all", title: "All", has: () => true },
  { name: "changed", title: "Changed", has: (row) => !get(row, "same") },
  { name: "better", title: "Better", has: (row) => get(row, "verdict") === "better" },
  { name: "worse", title: "Worse", has: (row) => get(row, "verdict") === "worse" },
  { name: "failed", title: "Failed in B", has: (row) => get(row, "second_error") !== null },
];

/** Return the orders in which rows can be shown, which depend on what they have. */
const orders = () => [
  { name: "document", title: "as in the documents" },
  { name: "change", title: "largest change first", valueOf: value("change"), falls: true },
  ...(rows.some((row) => get(row, "second_chrf") !== null) ? [{ name: "chrf", title: "largest loss of chrF first", valueOf: gain("chrf") }] : []),
  ...(rows.some((row) => get(row, "second_confidence") !== null)
    ? [{ name: "confidence", title: "largest loss of confidence first", valueOf: gain("confidence") }]
    : []),
];

async function start() {
  await readRows(rows);
  document.getElementById("waiting").remove();
  const section = document.getElementById("rows");
  if (!rows.length) {
    section.append(make("p", {}, "There are no pieces that both runs have."));
    return;
  }
  let details = null;
  const list = new VirtualList({
    label: "Pieces: the answers of A and of B",
    heads: ["Place", "A", "B", "Which is better"],
    drawCells,
    open: (place) => details.show(place),
  });
  details = new Details(list, drawItem);
  const printed = new PrintedRows(section, drawCells);
  const filters = new Filters({
    items: rows,
    kinds,
    textOf: (row) => [get(row, "source") ?? "", get(row, "first") ?? "", get(row, "second") ?? "", get(row, "place")],
    orders: orders(),
    changed: (items) => {
      list.show(items);
      printed.items = items;
    },
  });
  const keys = "Arrow keys, Page Up, Page Down, Home and End go through the list; Enter opens a piece; / goes to the text.";
  section.append(filters.element, filters.told, list.element, make("p", { class: "quiet keys" }, keys));
  filters.apply();
}

offerTheme();
start();

// The view of a comparison: each row is a piece with the answers of two runs.

const { get } = readSettings();
const rows = [];

function badges(row) {
  const found = [];
  if (get(row, "first_error") !== null) found.push(badge("A failed", "bad"));
  if (get(row, "second_error") !== null) found.push(badge("B failed", "bad"));
  if (get(row, "verdict") === "better") found.push(badge("better"));
  if (get(row, "verdict") === "worse") found.push(badge("worse", "poor"));
  if (get(row, "same")) found.push(badge("same"));
  return found;
}

/** Return a number of both runs as "12 → 14", "" where there is none. */
function both(row, name, unit = "") {
  const [one, other] = [get(row, `first_${name}`), get(row, `second_${name}`)];
  if (one === null && other === null) return "";
  return `${[one, other].map((number) => (number === null ? "–" : short(number))).join(" → ")}${unit}`;
}

function drawCells(row) {
  const texts = [get(row, "first"), get(row, "second")];
  const numbers = [both(row, "chrf", " chrF"), both(row, "confidence", " confidence")].filter(Boolean);
  return cellsOf({ place: get(row, "place"), texts, badges: badges(row), numbers });
}

function facts(row) {
  return factsOf([
    ["Why A failed", get(row, "first_error")],
    ["Why B failed", get(row, "second_error")],
    ["chrF", both(row, "chrf")],
    ["Confidence", both(row, "confidence")],
    ["Difference", `${short(100 * get(row, "change"))} %`],
  ]);
}

function drawItem(row) {
  const section = (title, text) => titled(title, wholeText(text));
  const parts = [
    ...headOf({ place: get(row, "place"), badges: badges(row) }),
    section("Source", get(row, "source")),
    make("div", { class: "both" }, section("A", get(row, "first")), section("B", get(row, "second"))),
  ];
  if (get(row, "reference") !== null) parts.push(section("Reference", get(row, "reference")));
  if (!get(row, "same") && get(row, "first") !== null && get(row, "second") !== null) {
    const title = "From A to B: what B left out is struck out, what it added is underlined";
    parts.push(titled(title, showChange(get(row, "first"), get(row, "second"))));
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
  showPieces({
    rows,
    none: "There are no pieces that both runs have.",
    label: "Pieces: the answers of A and of B",
    heads: ["Place", "A", "B", "Which is better"],
    drawCells,
    drawItem,
    kinds,
    textOf: (row) => [get(row, "source") ?? "", get(row, "first") ?? "", get(row, "second") ?? "", get(row, "place")],
    orders: orders(),
  });
}

offerTheme();
start();

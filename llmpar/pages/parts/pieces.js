// The list of all pieces with what belongs to it: filters, the dialog for one piece, and rows for paper.

const KEYS = "Arrow keys, Page Up, Page Down, Home and End go through the list; Enter opens a piece; / goes to the text.";

/**
 * Put the list of all pieces onto the page, and return its filters: a view may add a field of its own to their element.
 * Where there are no pieces, a sentence says so, and null is returned.
 *
 * rows: all pieces, in the order of the documents. none: the sentence for where there are none.
 * label, heads, drawCells(row): see VirtualList. drawItem(row): see Details. kinds, textOf(row), orders: see Filters.
 */
function showPieces({ rows, none, label, heads, drawCells, drawItem, kinds, textOf, orders }) {
  document.getElementById("waiting").remove();
  const section = document.getElementById("rows");
  if (!rows.length) {
    section.append(make("p", {}, none));
    return null;
  }
  const list = new VirtualList({ label, heads, drawCells, open: (place) => details.show(place) });
  const details = new Details(list, drawItem);
  const printed = new PrintedRows(section, drawCells);
  const filters = new Filters({
    items: rows,
    kinds,
    textOf,
    orders,
    changed: (shown) => {
      list.show(shown);
      printed.items = shown;
    },
  });
  section.append(filters.element, filters.told, list.element, make("p", { class: "quiet keys" }, KEYS));
  filters.apply();
  return filters;
}

/** Return a word that stands out. tone: "bad", "poor", or "" for what is neither. */
function badge(text, tone = "") {
  return make("span", { class: `badge ${tone}` }, text);
}

/** Return the cells of one row of the list. texts: the two that stand side by side. numbers: some words each. */
function cellsOf({ place, texts: [one, other], badges, numbers }) {
  return [
    make("span", { class: "cell place" }, quote(place)),
    make("span", { class: "cell source" }, clamped(one)),
    make("span", { class: "cell answer" }, clamped(other)),
    make("span", { class: "cell state" }, ...badges, make("span", { class: "quiet" }, numbers.join(" · "))),
  ];
}

/** Return the head of one piece for the dialog: its place, and what became of it. */
function headOf({ place, badges }) {
  return [make("h3", {}, quote(place)), make("p", { class: "badges" }, ...badges)];
}

/** Return a text of one piece under its title. */
function titled(title, content) {
  return make("section", {}, make("h4", {}, title), content);
}

/** Return names and their values, [name, value] each, but those without a value. */
function factsOf(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== "");
  const lines = known.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, quote(value))));
  return make("dl", { class: "facts" }, ...lines);
}

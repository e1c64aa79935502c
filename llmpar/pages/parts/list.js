// A list of any length: only the rows that can be seen are elements of the page.

const MARGIN = 8; // rows that are drawn above and below what can be seen
const TALLEST = 15e6; // pixels: browsers know no taller elements

/**
 * A grid whose rows all have the same height, which the style sheet says.
 *
 * label: its name for those who do not see it. heads: the titles of its columns.
 * drawCells(item): returns an array of elements, one for each column.
 * open(place): is called when the row at a place is chosen.
 */
class VirtualList {
  constructor({ label, heads, drawCells, open }) {
    this.drawCells = drawCells;
    this.open = open;
    this.items = [];
    this.active = 0;
    this.drawn = new Map();
    const cells = heads.map((head) => make("span", { role: "columnheader" }, head));
    this.head = make("div", { role: "rowgroup", class: "list-head" }, make("div", { role: "row", "aria-rowindex": 1 }, ...cells));
    this.body = make("div", { role: "rowgroup", class: "list-body" });
    this.element = make(
      "div",
      { role: "grid", class: "list", tabindex: 0, "aria-label": label, "aria-colcount": heads.length, "aria-readonly": "true" },
      this.head,
      this.body,
    );
    this.element.addEventListener("scroll", () => this.update(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.element.addEventListener("focus", () => this.markActive());
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("[role=row]");
      if (!row || String(getSelection())) return; // somebody is copying
      this.active = Number(row.dataset.place);
      this.markActive();
      this.open(this.active);
    });
    new ResizeObserver(() => this.measure()).observe(this.element);
  }

  /** Show other items, from the first. */
  show(items) {
    this.items = items;
    this.active = 0;
    this.element.setAttribute("aria-rowcount", items.length + 1);
    this.element.scrollTop = 0;
    this.redraw();
  }

  /** Return how many of the items can be reached by scrolling. */
  get reach() {
    return Math.min(this.items.length, Math.floor(TALLEST / (this.height || 1)));
  }

  /** Make the row at a place the active one, and let it be seen. */
  goTo(place) {
    this.active = Math.max(0, Math.min(this.reach - 1, place));
    const top = this.active * this.height;
    const room = this.element.clientHeight - this.head.offsetHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + this.height > this.element.scrollTop + room) this.element.scrollTop = top + this.height - room;
    this.update();
    this.markActive();
  }

  measure() {
    const probe = make("div", { class: "list-row" });
    this.body.append(probe);
    const height = probe.offsetHeight;
    probe.remove();
    if (height !== this.height) {
      this.height = height;
      this.redraw();
    } else {
      this.update();
    }
  }

  redraw() {
    for (const row of this.drawn.values()) row.remove();
    this.drawn.clear();
    this.body.style.height = `${this.reach * (this.height || 0)}px`;
    this.update();
    this.markActive();
  }

  update() {
    if (!this.height) return;
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - MARGIN);
    const count = Math.ceil(this.element.clientHeight / this.height) + 2 * MARGIN;
    const end = Math.min(this.reach, first + count);
    for (const [place, row] of this.drawn) {
      if (place < first || place >= end) {
        row.remove();
        this.drawn.delete(place);
      }
    }
    const added = document.createDocumentFragment();
    for (let place = first; place < end; place++) {
      if (!this.drawn.has(place)) added.append(this.drawRow(place));
    }
    this.body.append(added);
    if (this.drawn.has(this.active)) this.markActive();
    else this.element.removeAttribute("aria-activedescendant");
  }

  drawRow(place) {
    const cells = this.drawCells(this.items[place]);
    cells.forEach((cell) => cell.setAttribute("role", "gridcell"));
    const row = make(
      "div",
      { role: "row", class: "list-row", id: `row-${place}`, "aria-rowindex": place + 2, "aria-selected": "false" },
      ...cells,
    );
    row.dataset.place = place;
    row.style.top = `${place * this.height}px`;
    this.drawn.set(place, row);
    return row;
  }

  markActive() {
    for (const [place, row] of this.drawn) row.setAttribute("aria-selected", String(place === this.active));
    if (this.drawn.has(this.active)) this.element.setAttribute("aria-activedescendant", `row-${this.active}`);
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in steps) this.goTo(this.active + steps[event.key]);
    else if (event.key === "Home") this.goTo(0);
    else if (event.key === "End") this.goTo(this.reach - 1);
    else if (event.key === "Enter" && this.items.length) this.open(this.active);
    else return;
    event.preventDefault();
  }
}

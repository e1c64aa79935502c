// Paper has no scroll bar: before the page is printed, rows are put into it one below the other.

const MOST_PRINTED = 1000;

/** Rows for paper. section: takes them. drawCells: as the list has it. */
class PrintedRows {
  constructor(section, drawCells) {
    this.items = [];
    this.element = make("div", { class: "printed" });
    section.append(this.element);
    addEventListener("beforeprint", () => {
      const rows = this.items.slice(0, MOST_PRINTED).map((item) => make("div", { class: "printed-row" }, ...drawCells(item)));
      const left = this.items.length - rows.length;
      if (left > 0) rows.push(make("p", {}, `${whole(left)} more are not printed; choose fewer before you print.`));
      this.element.replaceChildren(...rows);
    });
    addEventListener("afterprint", () => this.element.replaceChildren());
  }
}

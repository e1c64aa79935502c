// What is shown of all items, and in which order: kinds, a text, a limit, an order.

/**
 * kinds: [{name, title, has(item)}], of which one at a time is chosen; the first shows all.
 * textOf(item): an array of the texts that are searched.
 * orders: [{name, title, valueOf(item), falls}], of which the first is the order of the items; null comes last.
 * changed(items): is told what is to be shown.
 */
class Filters {
  constructor({ items, kinds, textOf, orders, changed }) {
    Object.assign(this, { items, kinds, textOf, orders, changed });
    this.kind = kinds[0];
    this.wanted = "";
    this.search = make("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/" });
    this.order = make("select", { id: "order" }, ...orders.map(({ name, title }) => make("option", { value: name }, title)));
    this.isReversed = make("input", { type: "checkbox", id: "reversed" });
    this.buttons = kinds.map((kind) => {
      const label = [kind.title, " ", make("span", { class: "count" })];
      const button = make("button", { type: "button", "aria-pressed": String(kind === this.kind) }, ...label);
      button.addEventListener("click", () => this.choose(kind));
      return button;
    });
    this.count();
    this.told = make("p", { role: "status", class: "quiet", id: "shown" });
    this.element = make(
      "div",
      { class: "filters", role: "search", "aria-label": "Which pieces are shown" },
      make("div", { role: "group", "aria-label": "Kinds of pieces", class: "kinds" }, ...this.buttons),
      make("div", { class: "field" }, make("label", { for: "search" }, "Text"), this.search),
      make("div", { class: "field" }, make("label", { for: "order" }, "Order"), this.order),
      make("div", { class: "field check" }, this.isReversed, make("label", { for: "reversed" }, "reversed")),
    );
    this.search.addEventListener("input", () => this.later());
    this.order.addEventListener("change", () => this.apply());
    this.isReversed.addEventListener("change", () => this.apply());
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.target.closest("input, select, dialog")) {
        event.preventDefault();
        this.search.focus();
      }
    });
  }

  /** Show another kind of items. */
  choose(kind) {
    this.kind = kind;
    this.buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(this.kinds[index] === kind)));
    this.apply();
  }

  /** Count the items of each kind again, as what a kind has may depend on a setting. */
  count() {
    this.kinds.forEach((kind, index) => {
      const number = this.items.reduce((sum, item) => sum + Boolean(kind.has(item)), 0);
      this.buttons[index].querySelector(".count").textContent = whole(number);
      this.buttons[index].hidden = number === 0 && index > 0 && !kind.stays;
    });
  }

  /** Apply what was typed when the browser has a moment, once for several letters. */
  later() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.apply());
  }

  apply() {
    const wanted = this.search.value.toLowerCase();
    const isWanted = (item) => this.textOf(item).some((text) => text.toLowerCase().includes(wanted));
    let shown = this.items.filter((item) => this.kind.has(item) && (!wanted || isWanted(item)));
    const order = this.orders.find(({ name }) => name === this.order.value);
    if (order !== this.orders[0]) shown = sorted(shown, order.valueOf, order.falls);
    if (this.isReversed.checked) shown = shown.slice().reverse();
    const all = shown.length === this.items.length;
    this.told.textContent = all ? `${whole(shown.length)} pieces` : `${whole(shown.length)} of ${whole(this.items.length)} pieces`;
    this.changed(shown);
  }
}

/** Return items by their values, equal ones in their order; those without a value (null) come last. */
function sorted(items, valueOf, falls) {
  const sign = falls ? -1 : 1;
  const keyed = items.map((item, place) => ({ item, place, value: valueOf(item) }));
  keyed.sort((one, other) => {
    if (one.value === other.value) return one.place - other.place;
    if (one.value === null) return 1;
    if (other.value === null) return -1;
    return one.value < other.value ? -sign : sign;
  });
  return keyed.map(({ item }) => item);
}

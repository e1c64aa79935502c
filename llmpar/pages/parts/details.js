// One row with all that is known of it, over the page: a dialog that leads to the next one and back.

/**
 * list: the list whose rows are shown. drawItem(item): returns an array of elements; the first is a heading (h3).
 */
class Details {
  constructor(list, drawItem) {
    this.list = list;
    this.drawItem = drawItem;
    this.back = make("button", { type: "button", "aria-keyshortcuts": "ArrowLeft" }, "← Previous");
    this.on = make("button", { type: "button", "aria-keyshortcuts": "ArrowRight" }, "Next →");
    const close = make("button", { type: "button" }, "Close");
    this.place = make("span", { class: "quiet", role: "status" });
    this.content = make("div", { class: "details-content", tabindex: 0, role: "region", "aria-label": "The piece" });
    this.dialog = make(
      "dialog",
      { class: "details", "aria-labelledby": "details-title" },
      make("div", { class: "details-bar" }, this.back, this.on, this.place, close),
      this.content,
    );
    document.body.append(this.dialog);
    this.back.addEventListener("click", () => this.show(this.at - 1));
    this.on.addEventListener("click", () => this.show(this.at + 1));
    close.addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    });
    this.dialog.addEventListener("close", () => this.list.element.focus());
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.show(this.at - 1);
      else if (event.key === "ArrowRight") this.show(this.at + 1);
    });
  }

  /** Show the row at a place of the list. */
  show(place) {
    const { items } = this.list;
    if (place < 0 || place >= this.list.reach) return;
    this.at = place;
    const [heading, ...rest] = this.drawItem(items[place]);
    heading.id = "details-title";
    this.content.replaceChildren(heading, ...rest);
    this.content.scrollTop = 0;
    this.place.textContent = `${whole(place + 1)} of ${whole(items.length)}`;
    this.back.disabled = place === 0;
    this.on.disabled = place === this.list.reach - 1;
    this.list.goTo(place);
    if (!this.dialog.open) this.dialog.showModal();
  }
}

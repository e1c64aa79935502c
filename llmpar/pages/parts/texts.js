// Texts of documents, as a list and a dialog show them.

const HEAD = 600; // characters of a text that a row of the list can show at most

/** Return a document's text, or that it was not kept. */
function told(text, attributes = {}) {
  if (text === null) return make("em", { class: "quiet" }, "not kept");
  return quote(text, attributes);
}

/** Return the beginning of a document's text, for a row of the list. */
function clamped(text) {
  return told(text !== null && text.length > HEAD ? `${text.slice(0, HEAD)} …` : text, { class: "text clamped" });
}

/** Return a document's text, whole, as the dialog shows it. */
function wholeText(text) {
  return told(text, { class: "text" });
}

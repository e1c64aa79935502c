// Elements are made here and nowhere else: what comes from a document becomes text, never markup.

/** Return a new element. Children that are strings become text; attributes without a value are left out. */
function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  setAll(node, attributes);
  node.append(...children);
  return node;
}

/** Return a new element of a picture. */
function draw(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  setAll(node, attributes);
  node.append(...children);
  return node;
}

function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
}

/** Return an element that holds a document's text: what it says of direction ends with it. */
function quote(text, attributes = {}) {
  return make("span", { dir: "auto", ...attributes }, text);
}

const MOMENT = 20; // milliseconds of work, after which the browser may do something else

/** Return what the page says to its view: the settings, and get(row, name), a row's value in a column or null. */
function readSettings() {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const column = Object.fromEntries(settings.columns.map((name, index) => [name, index]));
  return { settings, get: (row, name) => row[column[name]] ?? null };
}

/** Put the page's rows into a list, some at a time; the elements that held them are taken away. */
async function readRows(rows) {
  let since = performance.now();
  for (const element of document.querySelectorAll("script.rows")) {
    for (const row of JSON.parse(element.textContent)) rows.push(row);
    element.remove();
    if (performance.now() - since > MOMENT) {
      await pause();
      since = performance.now();
    }
  }
}

/** Let the browser draw, and answer to keys. */
function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Let the button in the head change between light and dark. */
function offerTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const tell = () => {
    button.textContent = isDark() ? "Light" : "Dark";
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  tell();
  button.hidden = false;
}

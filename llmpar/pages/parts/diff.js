// What two texts have in common, word by word.

const MOST_COMPARED = 4e6; // words of one times words of the other: more would take seconds, and no one would read it
const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}\p{M}_]+|\s+|./gsu;

/**
 * Return how one text became another, as pieces [kind, text] with kind "same", "gone" or "new".
 * Null where they are too long to be compared.
 */
function compareWords(before, after) {
  const one = before.match(WORD) || [];
  const other = after.match(WORD) || [];
  let start = 0;
  while (start < one.length && start < other.length && one[start] === other[start]) start++;
  let tail = 0;
  while (
    tail < one.length - start &&
    tail < other.length - start &&
    one[one.length - 1 - tail] === other[other.length - 1 - tail]
  ) {
    tail++;
  }
  const left = one.slice(start, one.length - tail);
  const right = other.slice(start, other.length - tail);
  if (left.length * right.length > MOST_COMPARED) return null;
  const pieces = [];
  const add = (kind, word) => {
    const last = pieces[pieces.length - 1];
    if (last && last[0] === kind) last[1] += word;
    else pieces.push([kind, word]);
  };
  one.slice(0, start).forEach((word) => add("same", word));
  addMiddle(left, right, add);
  one.slice(one.length - tail).forEach((word) => add("same", word));
  return withoutIslands(pieces);
}

/** Let a change go on over the space between two of its words, so that it reads as one. */
function withoutIslands(pieces) {
  const joined = [];
  let gone = "";
  let added = "";
  const end = () => {
    if (gone) joined.push(["gone", gone]);
    if (added) joined.push(["new", added]);
    gone = added = "";
  };
  pieces.forEach(([kind, text], index) => {
    const isIsland = !text.trim() && (gone || added) && index + 1 < pieces.length;
    if (kind === "same" && !isIsland) {
      end();
      joined.push([kind, text]);
      return;
    }
    if (kind !== "new") gone += text;
    if (kind !== "gone") added += text;
  });
  end();
  return joined;
}

/** Walk along a longest common subsequence of two lists of words. */
function addMiddle(left, right, add) {
  const width = right.length + 1;
  const lengths = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      lengths[i * width + j] =
        left[i] === right[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      add("same", left[i]);
      i++;
      j++;
    } else if (j >= right.length || (i < left.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      add("gone", left[i++]);
    } else {
      add("new", right[j++]);
    }
  }
}

/** Return an element that shows how one text became another. */
function showChange(before, after) {
  const pieces = compareWords(before, after);
  if (pieces === null) return quote(after, { class: "text" });
  const names = { same: "span", gone: "del", new: "ins" };
  return make("span", { dir: "auto", class: "text" }, ...pieces.map(([kind, text]) => make(names[kind], {}, text)));
}

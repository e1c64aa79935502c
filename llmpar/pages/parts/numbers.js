// Numbers for people.

const WHOLE = new Intl.NumberFormat("en");
const BRIEF = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function whole(number) {
  return WHOLE.format(number);
}

/** Return a number that has little room: 430K, 1.2M. */
function brief(number) {
  return BRIEF.format(number);
}

function short(number) {
  return SHORT.format(number);
}

/** Return a time: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min. A number and its unit stay on one line. */
function duration(seconds) {
  if (seconds < 60) return `${short(seconds)}\u00a0s`;
  const rounded = Math.round(seconds);
  if (rounded < 3600) return `${Math.floor(rounded / 60)}\u00a0min ${rounded % 60}\u00a0s`;
  return `${Math.floor(rounded / 3600)}\u00a0h ${Math.floor((rounded % 3600) / 60)}\u00a0min`;
}

/** Return the value below which a share of sorted values lies (nearest rank). */
function quantile(sorted, share) {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** Return a step for about so many marks on an axis: 1, 2 or 5 times a power of ten. */
function roundStep(span, count) {
  const power = 10 ** Math.floor(Math.log10(span / count || 1));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => span / step <= count) || span;
}

// Slack's mrkdwn as DOM nodes. Everything is built with text nodes: no markup in a message ever reaches the parser.

const SVG = "http://www.w3.org/2000/svg";
const CIRCLES = {
  red_circle: "#d92d3a", large_orange_circle: "#ef7f1a", large_yellow_circle: "#f0c419", large_green_circle: "#2e9e5b",
  large_blue_circle: "#2f7de1", white_circle: "#d5d7db", black_circle: "#2b2d31",
};
// Drawn, so that the severity looks the same where no emoji font is installed.
const DRAWN = {
  white_check_mark: [["rect", { x: 1, y: 1, width: 18, height: 18, rx: 4, fill: "#2e9e5b" }],
    ["path", { d: "M5.5 10.5l3 3 6-7", fill: "none", stroke: "#fff", "stroke-width": 2.4, "stroke-linecap": "round" }]],
  x: [["path", { d: "M4 4l12 12M16 4L4 16", stroke: "#d92d3a", "stroke-width": 3.4, "stroke-linecap": "round" }]],
  warning: [["path", { d: "M10 2l9 16H1z", fill: "#f0b429", stroke: "#f0b429", "stroke-width": 1.5, "stroke-linejoin": "round" }],
    ["path", { d: "M10 8v4.5M10 15.4v.1", stroke: "#2b2d31", "stroke-width": 2, "stroke-linecap": "round" }]],
  rotating_light: [["path", { d: "M4 15a6 8 0 0 1 12 0z", fill: "#d92d3a" }], ["rect", { x: 2, y: 15, width: 16, height: 3, rx: 1, fill: "#6b6f76" }],
    ["path", { d: "M10 1v3M3 4l2 2M17 4l-2 2", stroke: "#d92d3a", "stroke-width": 1.6, "stroke-linecap": "round" }]],
  information_source: [["rect", { x: 1, y: 1, width: 18, height: 18, rx: 4, fill: "#2f7de1" }],
    ["path", { d: "M10 9v6M10 5.4v.1", stroke: "#fff", "stroke-width": 2.4, "stroke-linecap": "round" }]],
};
const CHARACTERS = {
  bar_chart: "📊", bell: "🔔", calendar: "📅", chart_with_downwards_trend: "📉", clock3: "🕒", electric_plug: "🔌", eyes: "👀",
  fire: "🔥", hourglass: "⌛", hourglass_flowing_sand: "⏳", key: "🔑", link: "🔗", lock: "🔒", mag: "🔍", memo: "📝",
  mute: "🔇", no_bell: "🔕", no_entry: "⛔", repeat: "🔁", stopwatch: "⏱", tada: "🎉", wrench: "🔧", zzz: "💤",
};
const NAMES = {
  "🔴": "red_circle", "🟠": "large_orange_circle", "🟡": "large_yellow_circle", "🟢": "large_green_circle",
  "🔵": "large_blue_circle", "⚪": "white_circle", "⚫": "black_circle", "✅": "white_check_mark", "❌": "x", "⚠": "warning",
  "🚨": "rotating_light", "ℹ": "information_source",
};
const PICTOGRAMS = new RegExp(`(?:${Object.keys(NAMES).join("|")})\\uFE0F?`, "gu");

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function emoji(name) {
  const shapes = DRAWN[name] ?? (CIRCLES[name] && [["circle", { cx: 10, cy: 10, r: 8.5, fill: CIRCLES[name] }]]);
  if (!shapes) {
    return CHARACTERS[name] ? element("span", { role: "img", "aria-label": name.replaceAll("_", " ") }, CHARACTERS[name]) : null;
  }
  const svg = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 20 20", class: "emoji", role: "img", "aria-label": name.replaceAll("_", " ") };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const [shape, properties] of shapes) {
    const node = document.createElementNS(SVG, shape);
    for (const [key, value] of Object.entries(properties)) node.setAttribute(key, value);
    svg.append(node);
  }
  return svg;
}

const unescape = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

// Plain characters, with shortcodes and the pictograms we draw replaced.
function characters(text, { shortcodes = true } = {}) {
  const nodes = [];
  const pattern = new RegExp(`:([a-z0-9_+-]+):|${PICTOGRAMS.source}`, "gu");
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    const name = match[1] ?? NAMES[match[0].replace("\uFE0F", "")];
    const drawn = match[1] && !shortcodes ? null : emoji(name);
    if (!drawn) continue;
    nodes.push(unescape(text.slice(from, match.index)), drawn);
    from = match.index + match[0].length;
  }
  nodes.push(unescape(text.slice(from)));
  return nodes.filter((node) => node !== "");
}

function day(date, style) {
  return new Intl.DateTimeFormat(undefined, style).format(date);
}

function pretty(date, style) {
  const midnight = (moment) => new Date(moment.getFullYear(), moment.getMonth(), moment.getDate()).getTime();
  const days = Math.round((midnight(date) - midnight(new Date())) / 86_400_000);
  const names = { "-1": "yesterday", 0: "today", 1: "tomorrow" };
  return names[days] ?? day(date, style);
}

const LONG = { weekday: "long", year: "numeric", month: "long", day: "numeric" };
const MEDIUM = { year: "numeric", month: "long", day: "numeric" };
const SHORT = { year: "numeric", month: "short", day: "numeric" };
const TOKENS = {
  date_num: (date) => day(date, { year: "numeric", month: "2-digit", day: "2-digit" }),
  date: (date) => day(date, MEDIUM),
  date_short: (date) => day(date, SHORT),
  date_long: (date) => day(date, LONG),
  date_pretty: (date) => pretty(date, MEDIUM),
  date_short_pretty: (date) => pretty(date, SHORT),
  date_long_pretty: (date) => pretty(date, LONG),
  time: (date) => day(date, { hour: "numeric", minute: "2-digit" }),
  time_secs: (date) => day(date, { hour: "numeric", minute: "2-digit", second: "2-digit" }),
  ago: (date) => {
    const minutes = Math.round((date - Date.now()) / 60_000);
    const [amount, unit] = Math.abs(minutes) < 60 ? [minutes, "minute"]
      : Math.abs(minutes) < 2880 ? [Math.round(minutes / 60), "hour"] : [Math.round(minutes / 1440), "day"];
    return new Intl.RelativeTimeFormat(undefined, { numeric: "auto" }).format(amount, unit);
  },
};

function slackDate(seconds, format, fallback) {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return document.createTextNode(unescape(fallback));
  const words = format.replace(/\{(\w+)\}/g, (whole, token) => (TOKENS[token] ? TOKENS[token](date) : whole));
  return element("time", { datetime: date.toISOString(), title: unescape(fallback) }, unescape(words));
}

export function link(url, label) {
  let parsed = null;
  try {
    parsed = new URL(url);
  } catch { /* not a URL: it stays text */ }
  if (!parsed || !["http:", "https:", "mailto:"].includes(parsed.protocol)) return null;
  return element("a", { href: parsed.href, target: "_blank", rel: "noopener noreferrer" }, ...label);
}

// What stands between < and >: a date, a mention, or a link.
function angle(inner) {
  const bar = inner.indexOf("|");
  const target = bar < 0 ? inner : inner.slice(0, bar);
  const label = bar < 0 ? "" : inner.slice(bar + 1);
  const date = /^!date\^(-?\d+)\^([^^]*)(?:\^(.*))?$/.exec(target);
  if (date) {
    const shown = slackDate(date[1], date[2], label);
    return (date[3] && link(unescape(date[3]), [shown])) || shown;
  }
  if (/^!(channel|here|everyone)$/.test(target)) return element("span", { class: "mention" }, `@${target.slice(1)}`);
  if (/^[@#!]/.test(target)) {
    return element("span", { class: "mention" }, unescape(label || `${target[0] === "#" ? "#" : "@"}${target.slice(1)}`));
  }
  return link(unescape(target), label ? characters(label) : [unescape(target)]) ?? document.createTextNode(`<${unescape(inner)}>`);
}

const INLINE = /```([\s\S]+?)```|`([^`\n]+)`|<([^<>\n]+)>|(?<![\w*])\*(?=\S)([^*\n]*?\S)\*(?![\w*])|(?<![\w_])_(?=\S)([^_\n]*?\S)_(?![\w_])|(?<![\w~])~(?=\S)([^~\n]*?\S)~(?![\w~])/g;

function inline(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, fence, code, tag, bold, italic, struck] = match;
    nodes.push(...characters(text.slice(from, match.index)));
    if (fence !== undefined) nodes.push(element("pre", {}, element("code", {}, unescape(fence.replace(/^\n|\n$/g, "")))));
    else if (code !== undefined) nodes.push(element("code", {}, unescape(code)));
    else if (tag !== undefined) nodes.push(angle(tag));
    else if (bold !== undefined) nodes.push(element("strong", {}, ...inline(bold)));
    else if (italic !== undefined) nodes.push(element("em", {}, ...inline(italic)));
    else nodes.push(element("s", {}, ...inline(struck)));
    from = match.index + whole.length;
  }
  nodes.push(...characters(text.slice(from)));
  return nodes;
}

/** Return nodes for a mrkdwn text: paragraphs of lines, with runs of "> " as quotes. */
export function mrkdwn(text) {
  const parts = [];
  for (const piece of String(text).split(/(```[\s\S]+?```)/)) {
    if (piece.startsWith("```") && piece.length > 6) {
      parts.push(...inline(piece));
      continue;
    }
    for (const run of piece.split(/((?:^(?:&gt;|>) ?.*(?:\n|$))+)/m)) {
      if (/^(?:&gt;|>)/.test(run)) parts.push(element("blockquote", {}, ...inline(run.replace(/^(?:&gt;|>) ?/gm, "").replace(/\n$/, ""))));
      else if (run.trim()) parts.push(...inline(run));
    }
  }
  return parts;
}

/** Return nodes for a text object: mrkdwn, or plain text with its emoji. */
export function textObject(object) {
  if (object?.type === "mrkdwn") return mrkdwn(object.text ?? "");
  return characters(String(object?.text ?? "").replaceAll("&", "&amp;"), { shortcodes: object?.emoji !== false });
}

// One Slack message, and Block Kit, as DOM nodes.

import { element, link, mrkdwn, textObject } from "./mrkdwn.js";

const clock = (moment) => new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" }).format(moment);
const full = (moment) => new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" }).format(moment);

function control(item) {
  if (item?.type === "image") return picture(item);
  if (item?.type !== "button") return element("span", { class: "unknown" }, `[${String(item?.type)}]`);
  const style = ["primary", "danger"].includes(item.style) ? ` ${item.style}` : "";
  const label = textObject(item.text);
  const node = item.url ? link(item.url, label) : null;
  if (!node) return element("span", { class: `button${style}` }, ...label);
  node.className = `button${style}`;
  return node;
}

// Pictures are not loaded: this page asks no other server for anything.
function picture(item) {
  return element("span", { class: "picture", role: "img", "aria-label": item.alt_text ?? "" }, item.alt_text || "picture");
}

const BLOCKS = {
  header: (block) => element("h3", { class: "block header" }, ...textObject(block.text)),
  divider: () => element("hr", { class: "block" }),
  section: (block) => {
    const body = element("div", { class: "body" });
    if (block.text) body.append(element("div", { class: "text" }, ...textObject(block.text)));
    if (block.fields) {
      body.append(element("div", { class: "fields" }, ...block.fields.map((field) => element("div", { class: "text" }, ...textObject(field)))));
    }
    return element("div", { class: "block section" }, body, block.accessory ? control(block.accessory) : null);
  },
  context: (block) => element("div", { class: "block context" },
    ...(block.elements ?? []).map((item) => (item.type === "image" ? picture(item) : element("span", { class: "text" }, ...textObject(item))))),
  actions: (block) => element("div", { class: "block actions" }, ...(block.elements ?? []).map(control)),
  image: (block) => element("div", { class: "block" }, picture(block)),
  markdown: (block) => element("div", { class: "block text" }, String(block.text ?? "")),
};

function blocks(list) {
  return list.map((block) => (BLOCKS[block.type] ?? (() => element("p", { class: "unknown" }, `[${String(block.type)} block]`)))(block));
}

function attachment(item) {
  const node = element("div", { class: "attachment" });
  if (/^#?[0-9a-fA-F]{6}$/.test(item.color ?? "")) node.style.borderColor = `#${item.color.replace("#", "")}`;
  if (item.blocks) node.append(...blocks(item.blocks));
  else node.append(...[item.pretext, item.title, item.text].filter(Boolean).map((text) => element("div", { class: "text" }, ...mrkdwn(text))));
  return node;
}

function article(message) {
  const posted = new Date(message.posted_at);
  const name = element("span", { class: "name" }, message.username);
  const edited = message.edited
    ? element("span", { class: "edited", title: `Edited ${full(new Date(message.edited_at))}` }, "(edited)") : null;
  const content = message.blocks.length
    ? [...blocks(message.blocks), element("p", { class: "notification" }, element("span", { class: "label" }, "Notification "), ...mrkdwn(message.text))]
    : [element("div", { class: "block text" }, ...mrkdwn(message.text))];
  const via = message.via === "webhook" ? element("span", { class: "via" }, "via webhook") : null;
  // Said in the title rather than in sight: Slack shows no mark on a message edited with blocks.
  const rewritten = message.edits && !message.edited ? `\nUpdated ${message.edits === 1 ? "once" : `${message.edits} times`}, last ${full(new Date(message.edited_at))}` : "";
  return element("article", { class: "message", "aria-label": `${message.username}, ${full(posted)}` },
    element("span", { class: "avatar", "aria-hidden": "true" }, initials(message.username)),
    element("div", { class: "content" },
      element("p", { class: "byline" }, name, element("span", { class: "tag" }, "App"),
        element("time", { datetime: message.posted_at, title: full(posted) + rewritten }, clock(posted)), via,
        message.thread_ts && message.broadcast ? element("span", { class: "via" }, "also sent to the channel") : null),
      ...content, ...message.attachments.map(attachment), edited));
}

function initials(name) {
  return name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

/** Return the list item of a message and the replies of its thread. */
export function thread(message, replies) {
  const node = element("li", { class: "thread" }, article(message));
  if (replies.length) {
    const words = replies.length === 1 ? "1 reply" : `${replies.length} replies`;
    node.append(element("details", { class: "replies", open: true }, element("summary", {}, words),
      element("ol", { "aria-label": words }, ...replies.map((reply) => element("li", {}, article(reply))))));
  }
  return node;
}

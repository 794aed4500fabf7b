// Fetches what arrived, and shows the place that the address names: #/slack/<channel id>, #/mail or #/mail/<number>.

import { mailList, mailPane } from "./mail.js";
import { element } from "./mrkdwn.js";
import { thread } from "./slack.js";

const EVERY_MS = 2000;
const NEAR_END_PX = 80;

const view = document.getElementById("view");
const places = document.getElementById("places");
const status = document.getElementById("status");

let state = null;
let known = "";
let shown = { place: null };
const seen = new Map(); // place -> how many messages were there when it was last open

const say = (words, mood) => {
  if (status.textContent !== words) status.textContent = words;
  status.dataset.mood = mood;
};

function place() {
  const [, kind, id] = location.hash.split("/");
  if (kind === "mail") return { kind, key: "mail", number: id ? Number(id) : null };
  const channel = state.channels.find((each) => each.id === id) ?? state.channels[0];
  return { kind: "slack", key: channel?.id, channel };
}

function placeLink(href, key, label, count, current) {
  const unread = current ? 0 : count - (seen.get(key) ?? count);
  const words = unread > 0 ? `${unread} new of ${count}` : `${count}`;
  return element("li", {}, element("a", { href, "aria-current": current ? "page" : null, class: unread > 0 ? "unread" : null },
    element("span", { class: "label" }, label),
    element("span", { class: "count", "aria-label": words }, unread > 0 ? `+${unread}` : `${count}`)));
}

function drawPlaces(here) {
  const counts = [...state.channels.map((each) => [each.id, each.count]), ["mail", state.mail_count]];
  for (const [key, count] of counts) if (key === here.key || !seen.has(key) || seen.get(key) > count) seen.set(key, count);
  const focused = places.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  places.replaceChildren(
    element("h2", {}, "Slack"),
    element("ul", {}, ...state.channels.map((each) => placeLink(`#/slack/${each.id}`, each.id, `# ${each.name}`, each.count, here.key === each.id))),
    element("h2", {}, "Mail"),
    element("ul", {}, placeLink("#/mail", "mail", "All mail", state.mail_count, here.kind === "mail")));
  if (focused) [...places.querySelectorAll("a")].find((each) => each.getAttribute("href") === focused)?.focus();
}

function empty(title, ...lines) {
  return element("div", { class: "empty" }, element("h3", {}, title), ...lines.map((line) => element("p", {}, line)));
}

function dayOf(moment) {
  return new Intl.DateTimeFormat(undefined, { weekday: "long", month: "long", day: "numeric" }).format(new Date(moment));
}

// The items of a channel: a line per day, and a list item per message with its replies.
function channelItems(id) {
  const here = state.slack.filter((message) => message.channel === id);
  const replies = Map.groupBy
    ? Map.groupBy(here.filter((each) => each.thread_ts), (each) => each.thread_ts)
    : here.filter((each) => each.thread_ts).reduce((map, each) => map.set(each.thread_ts, [...(map.get(each.thread_ts) ?? []), each]), new Map());
  const roots = new Set(here.filter((each) => !each.thread_ts).map((each) => each.ts));
  const items = [];
  let day = null;
  for (const message of here) {
    // A reply whose parent is no longer among the newest stands by itself.
    if (message.thread_ts && roots.has(message.thread_ts)) continue;
    if (dayOf(message.posted_at) !== day) {
      day = dayOf(message.posted_at);
      items.push({ key: `day ${day}`, sign: day, make: () => element("li", { class: "day" }, element("span", {}, day)) });
    }
    const own = replies.get(message.ts) ?? [];
    items.push({ key: message.ts, sign: JSON.stringify([message, own]), make: () => thread(message, message.thread_ts ? [] : own) });
  }
  return items;
}

function openChannel(here) {
  const list = element("ol", { class: "messages" });
  const scroller = element("div", { class: "scroller", tabindex: "0", role: "log", "aria-label": `Messages in ${here.channel.name}` }, list);
  const newer = element("button", { type: "button", class: "newer", hidden: true }, "New messages below");
  newer.addEventListener("click", () => { scroller.scrollTop = scroller.scrollHeight; });
  scroller.addEventListener("scroll", () => { if (nearEnd(scroller)) newer.hidden = true; }, { passive: true });
  const box = element("input", { type: "checkbox", id: "notifications" });
  box.checked = view.classList.contains("with-notifications");
  box.addEventListener("change", () => view.classList.toggle("with-notifications", box.checked));
  view.replaceChildren(
    element("div", { class: "title" }, element("h2", {}, `# ${here.channel.name}`),
      element("label", {}, box, "Show notification texts")),
    scroller, newer);
  shown = { place: here.key, list, scroller, newer, items: new Map() };
}

const nearEnd = (scroller) => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;

function drawChannel(here) {
  const isNew = shown.place !== here.key || !shown.list;
  if (isNew) openChannel(here);
  const { list, scroller, newer, items } = shown;
  const follow = isNew || nearEnd(scroller);
  const before = items.size;
  const wanted = channelItems(here.key);
  list.parentElement.querySelector(".empty")?.remove();
  if (!wanted.length) {
    scroller.append(empty(`Nothing in # ${here.channel.name} yet`,
      "Alerts appear here within seconds of being sent: the failure check runs every 15 minutes, the token and quality checks every 6 hours.",
      "Start a check by hand in Airflow to see one now. A healthy integration sends nothing."));
  }
  const keys = new Set(wanted.map((item) => item.key));
  for (const [key, item] of items) {
    if (!keys.has(key)) {
      item.node.remove();
      items.delete(key);
    }
  }
  let last = null;
  for (const { key, sign, make } of wanted) {
    const old = items.get(key);
    let node = old?.node;
    if (!old || old.sign !== sign) {
      node = make();
      if (old) {
        const details = old.node.querySelector("details");
        if (details && !details.open) node.querySelector("details")?.removeAttribute("open");
        old.node.replaceWith(node);
      }
      items.set(key, { sign, node });
    }
    const next = last ? last.nextSibling : list.firstChild;
    if (next !== node) list.insertBefore(node, next);
    last = node;
  }
  if (follow) scroller.scrollTop = scroller.scrollHeight;
  else if (items.size > before) newer.hidden = false;
}

function drawMail(here) {
  const found = state.mails.find((mail) => mail.number === here.number);
  const wide = matchMedia("(min-width: 60rem)").matches;
  // Without a number in the address the newest is open, and stays open when a newer one arrives: someone reads it.
  const standing = shown.place === "mail" ? state.mails.find((mail) => mail.number === shown.open) : null;
  const open = found ?? (wide && here.number === null ? standing ?? state.mails.at(-1) : null);
  if (shown.place !== "mail") {
    const list = element("div", { class: "mail-list", tabindex: "0", role: "region", "aria-label": "Mails" });
    const pane = element("div", { class: "mail-pane", tabindex: "0", role: "region", "aria-label": "The open mail" });
    view.replaceChildren(element("div", { class: "title" }, element("h2", {}, "All mail")), element("div", { class: "mailbox" }, list, pane));
    shown = { place: "mail", list, pane, open: null };
  }
  view.classList.toggle("reading", Boolean(found));
  const focused = shown.list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const top = shown.list.scrollTop;
  shown.list.replaceChildren(state.mails.length ? mailList(state.mails, open?.number) : empty("No mail yet",
    "Mail to the receivers of the policy appears here within seconds of being sent, each with its HTML and its text part."));
  shown.list.scrollTop = top;
  if (focused) [...shown.list.querySelectorAll("a")].find((each) => each.getAttribute("href") === focused)?.focus();
  if (open && shown.open !== open.number) {
    shown.pane.replaceChildren(mailPane(open));
    shown.pane.scrollTop = 0;
  } else if (!open) {
    shown.pane.replaceChildren(here.number && !found ? empty("No such mail", "It may be older than the mails shown.") : "");
  }
  shown.open = open?.number ?? null;
}

function draw() {
  if (!state) return;
  const here = place();
  drawPlaces(here);
  document.title = `${here.kind === "mail" ? "All mail" : `# ${here.channel.name}`} · Local inbox`;
  if (here.kind === "mail") drawMail(here);
  else {
    view.classList.remove("reading");
    drawChannel(here);
  }
}

async function refresh() {
  try {
    const answer = await fetch(`/messages.json?known=${encodeURIComponent(known)}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = await answer.json();
    if (fresh.changed) {
      state = fresh;
      known = fresh.revision;
      draw();
    }
    say("Live", "good");
  } catch {
    say("The inbox does not answer; trying again", "bad");
  }
  setTimeout(refresh, EVERY_MS);
}

addEventListener("hashchange", () => { draw(); view.focus({ preventScroll: true }); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); view.focus(); });
refresh();

// One mail: its envelope, its HTML part in a sandboxed frame, its text part, its headers.

import { element } from "./mrkdwn.js";

const full = (moment) => new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" }).format(moment);
const brief = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });

/** Return the list of mails, newest first; the open one is marked. */
export function mailList(mails, open) {
  return element("ol", { class: "mails", "aria-label": "Mails, newest first" }, ...[...mails].reverse().map((mail) =>
    element("li", {}, element("a", { href: `#/mail/${mail.number}`, "aria-current": mail.number === open ? "true" : null },
      element("span", { class: "from" }, mail.from.replace(/\s*<[^<>]*>$/, "") || "(no sender)"),
      element("time", { datetime: mail.received_at }, brief.format(new Date(mail.received_at))),
      element("span", { class: "subject" }, mail.subject || "(no subject)"),
      element("span", { class: "snippet" }, mail.text.trim().slice(0, 160))))));
}

function frame(mail) {
  const node = element("iframe", {
    class: "html", title: "HTML part", src: `/mail/${mail.number}`, sandbox: "allow-same-origin allow-popups allow-popups-to-escape-sandbox",
  });
  node.addEventListener("load", () => {
    const page = node.contentDocument;
    if (!page?.body) return;
    for (const anchor of page.querySelectorAll("a[href], area[href]")) {
      anchor.setAttribute("target", "_blank");
      anchor.setAttribute("rel", "noopener noreferrer");
    }
    const fit = () => { node.style.height = `${Math.min(page.documentElement.scrollHeight, 20_000)}px`; };
    fit();
    new ResizeObserver(fit).observe(page.body);
  });
  return node;
}

/** Return the reading pane of a mail. */
export function mailPane(mail) {
  const body = element("div", { class: "mail-body" });
  const choices = [];
  const show = (part) => {
    for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.value === part));
    body.replaceChildren(part === "html" ? frame(mail) : element("pre", { class: "plain", tabindex: "0" }, mail.text || "(no text part)"));
  };
  const choice = (part, label) => {
    const node = element("button", { type: "button", value: part, "aria-pressed": "false" }, label);
    node.addEventListener("click", () => show(part));
    choices.push(node);
    return node;
  };
  const toggle = element("div", { class: "toggle", role: "group", "aria-label": "Part of the mail" },
    mail.has_html ? choice("html", "HTML") : null, choice("text", "Text"));
  const row = (name, value) => [element("dt", {}, name), element("dd", {}, value)];
  const others = mail.recipients.join(", ");
  const pane = element("article", { class: "mail", "aria-labelledby": "subject" },
    element("a", { class: "back", href: "#/mail" }, "All mail"),
    element("h2", { id: "subject" }, mail.subject || "(no subject)"),
    element("div", { class: "mail-top" },
      element("dl", { class: "envelope" }, ...row("From", mail.from), ...row("To", mail.to),
        ...(others === mail.to ? [] : row("Delivered to", others)), ...row("Received", full(new Date(mail.received_at)))),
      toggle),
    body,
    element("details", { class: "headers" }, element("summary", {}, `Headers (${mail.headers.length})`),
      element("dl", {}, ...mail.headers.flatMap(([name, value]) => row(name, value)))));
  show(mail.has_html ? "html" : "text");
  return pane;
}

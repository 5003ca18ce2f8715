// What pages need beside htmx: live parts rest while nobody sees them, and say so when the server is silent.
"use strict";
(() => {
  const isLive = (event) => event.detail.elt instanceof Element && event.detail.elt.hasAttribute("data-live");
  let seenAt = new Date();
  let isRefused = false;

  // `why`: the part of the note that says what is wrong; none where nothing is.
  const tell = (why) => {
    const note = document.getElementById("stale");
    if (!note) return;
    note.querySelector("[data-stale-since]").textContent = seenAt.toISOString().slice(11, 19);
    for (const part of note.querySelectorAll("[data-why]")) part.hidden = part.dataset.why !== why;
    note.hidden = !why;
  };

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isLive(event) && (document.hidden || isRefused)) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    isRefused = false;
    htmx.trigger(document.body, "wake");
  });
  // Where a session has ended, a page to sign in may come instead of ours: it does not belong into this one.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isLive(event) || event.detail.serverResponse.trimStart().startsWith('<div id="live"')) return;
    event.detail.shouldSwap = false;
    event.detail.isError = true;
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (!isLive(event)) return;
    const { successful, xhr } = event.detail;
    if (successful) seenAt = new Date();
    isRefused = xhr.status === 401 || xhr.status === 403;
    tell(successful ? "" : isRefused ? "refused" : xhr.status ? "other" : "silent");
  });

  // A person's own doing stays as it is when a part is drawn anew: what is unfolded, and what is written. A link or button
  // that has the focus is drawn anew like all others: its text must not differ from where it leads.
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (node) =>
    !(node === document.activeElement && node.matches("input, select, textarea"));
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.tagName === "DETAILS");

  // A form that was sent is not sent again by a second click.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "true";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
    }
  });
})();

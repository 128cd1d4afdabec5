// Review by keyboard: each key presses the button, or follows the link, that names it.

import { say } from "/static/studio.js";

const switchOn = document.getElementById("keys");

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (!switchOn.checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (at.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
  // Space and Enter on a control keep their own meaning
  if ((event.key === " " || event.key === "Enter") && at.matches("button, a, summary, input")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const wanted = key === "ArrowRight" ? " " : key === "Backspace" ? "u" : key;
  const target = document.querySelector(`#desk [data-key="${CSS.escape(wanted)}"]`);
  if (!target || event.repeat) return;
  event.preventDefault();
  target.click();
});

// Screen readers hear which image is next; the focus stays where keys are heard
document.addEventListener("htmx:afterSwap", () => {
  const desk = document.getElementById("desk");
  if (document.activeElement === document.body) desk.focus({ preventScroll: true });
  const fault = desk.querySelector('[role="alert"]');
  const heading = desk.querySelector("h2");
  say(fault ? fault.textContent.trim() : `${heading.textContent} ${desk.dataset.place}`);
});

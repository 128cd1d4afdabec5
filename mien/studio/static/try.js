// A picture that is dropped on the page becomes the file of the form, which is sent.

import { say } from "/static/studio.js";

const form = document.getElementById("try");
const drop = document.getElementById("drop");

if (form) {
  form.addEventListener("htmx:beforeRequest", () => say("The picture is being looked at. The first one takes longer, since the classifier is loaded."));
  form.addEventListener("htmx:afterRequest", () => say(""));
  const field = document.getElementById("picture");
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    const files = new DataTransfer();
    files.items.add(event.dataTransfer.files[0]);
    field.files = files.files;
    form.requestSubmit();
  });
}

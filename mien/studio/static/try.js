// A picture that is dropped on the page becomes the file of the form, which is sent.

const form = document.getElementById("try");
const drop = document.getElementById("drop");

if (form) {
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

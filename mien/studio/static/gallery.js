// The grid of the gallery: only the tiles on the screen exist, drawn from sheets of thumbnails.

import { csrf, get, post, say } from "./studio.js";

const BLOCK = 240; // images of one sheet; the studio draws them in rows of COLUMNS
const COLUMNS = 16;
const GAP = 10;
const LINE_HEIGHT = 18; // of the label, and of the number above it
const KEPT_BLOCKS = 60;
const FRAME_MS = 150;

const gallery = document.getElementById("gallery");
const grid = document.getElementById("grid");
const form = document.getElementById("filters");
const dialog = document.getElementById("large");
const field = (name) => document.getElementById(name);

let order = { positions: [], values: null, width: 1, height: 1 };
let blocks = new Map(); // number -> {facts, bitmap, asked}
let tiles = new Map(); // place in the order -> element
let selected = new Set(); // positions in the set
let current = 0; // the place that has the focus
let anchor = 0; // where a range begins
let shape = { columns: 1, width: 64, height: 64, rows: 0 };
let turn = 0; // answers to an older question are dropped

// ---- What is shown

/** Return the state of the form as the end of an address, without what is empty. */
function readState() {
  const state = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...state]) if (value === "" || (name === "sort" && value === "position")) state.delete(name);
  if (state.get("size") === "64") state.delete("size");
  return state;
}

/** Ask which images are shown, in which order, and show them from the first. */
async function load(place = 0) {
  const mine = ++turn;
  const state = readState();
  try {
    const answer = await get(`/gallery/order?${state}`);
    if (mine !== turn) return;
    order = answer;
  } catch (fault) {
    say(fault.message);
    return;
  }
  for (const block of blocks.values()) block.bitmap?.close();
  blocks = new Map();
  current = anchor = Math.min(place, Math.max(0, order.positions.length - 1));
  grid.hidden = !order.positions.length;
  clearTiles();
  layOut();
  showCount();
}

function clearTiles() {
  for (const tile of tiles.values()) tile.remove();
  tiles = new Map();
}

/** Compute how many tiles fit into a row, and how high the grid is. */
function layOut() {
  const wanted = Number(field("size").value);
  const scale = wanted / Math.max(order.width, order.height);
  const room = grid.clientWidth;
  const width = Math.min(room, Math.round(order.width * scale));
  const columns = Math.max(1, Math.floor((room + GAP) / (width + GAP)));
  const height = Math.round((width * order.height) / order.width) + LINE_HEIGHT * (order.values ? 2 : 1);
  shape = { columns, width, height, rows: Math.ceil(order.positions.length / columns) };
  grid.style.height = `${Math.max(1, shape.rows) * (height + GAP)}px`;
  draw();
}

/** Make the tiles that are on the screen or near it, and remove the others. */
function draw() {
  const top = grid.getBoundingClientRect().top;
  const rowHeight = shape.height + GAP;
  const first = Math.max(0, Math.floor((-top - innerHeight / 2) / rowHeight));
  const last = Math.min(shape.rows - 1, Math.ceil((-top + 1.5 * innerHeight) / rowHeight));
  const from = first * shape.columns;
  const to = Math.min(order.positions.length, (last + 1) * shape.columns);
  for (const [place, tile] of tiles) {
    if ((place < from || place >= to) && place !== current) {
      tile.remove();
      tiles.delete(place);
    }
  }
  for (let place = from; place < to; place++) showTile(place);
  if (order.positions.length) showTile(current);
  for (let block = Math.floor(from / BLOCK); block * BLOCK < to; block++) loadBlock(block);
}

/** Make the tile of a place, unless there is one, and put it where it belongs. */
function showTile(place) {
  let tile = tiles.get(place);
  if (!tile) {
    tile = document.createElement("div");
    tile.className = "tile";
    tile.setAttribute("role", "option");
    tile.id = `tile-${place}`;
    tile.dataset.place = place;
    tile.append(document.createElement("canvas"), Object.assign(document.createElement("span"), { className: "text" }));
    tile.setAttribute("aria-setsize", order.positions.length);
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-label", `Image ${place + 1}`);
    tiles.set(place, tile);
    const next = [...grid.children].find((other) => Number(other.dataset.place) > place);
    grid.insertBefore(tile, next ?? null);
    fill(place);
  }
  const row = Math.floor(place / shape.columns);
  const column = place % shape.columns;
  tile.style.width = `${shape.width}px`;
  tile.style.height = `${shape.height}px`;
  tile.style.transform = `translate(${column * (shape.width + GAP)}px, ${row * (shape.height + GAP)}px)`;
  tile.tabIndex = place === current ? 0 : -1;
  tile.setAttribute("aria-selected", selected.has(order.positions[place]));
}

/** Load the facts and the sheet of a block of images, once. */
async function loadBlock(number) {
  if (blocks.has(number)) return;
  const block = { facts: null, bitmap: null };
  blocks.set(number, block);
  const mine = turn;
  const at = order.positions.slice(number * BLOCK, (number + 1) * BLOCK).join(",");
  const set = gallery.dataset.set;
  try {
    const [facts, sheet] = await Promise.all([get(`/gallery/facts?set=${set}&at=${at}`), fetch(`/sheet/${set}?at=${at}`)]);
    if (mine !== turn) return;
    block.facts = facts;
    block.bitmap = await createImageBitmap(await sheet.blob());
  } catch (fault) {
    blocks.delete(number);
    say(fault.message);
    return;
  }
  for (const place of tiles.keys()) if (Math.floor(place / BLOCK) === number) fill(place);
  while (blocks.size > KEPT_BLOCKS) {
    const oldest = blocks.keys().next().value;
    blocks.get(oldest).bitmap?.close();
    blocks.delete(oldest);
  }
}

/** Draw the image of a tile, and write its texts, if its block is there. */
function fill(place) {
  const tile = tiles.get(place);
  const block = blocks.get(Math.floor(place / BLOCK));
  if (!tile || !block?.bitmap) return;
  const canvas = tile.querySelector("canvas");
  drawCell(canvas, block.bitmap, place % BLOCK, COLUMNS);
  const [label, subject, moments, tags, flags, hidden] = block.facts[place % BLOCK];
  const value = order.values?.[place] ?? "";
  const text = tile.querySelector(".text");
  const number = Object.assign(document.createElement("b"), { textContent: value });
  text.replaceChildren(...(order.values ? [number, " ", document.createElement("br"), label] : [label]));
  tile.querySelector(".dots")?.remove();
  if (tags.length || flags.length) {
    const dots = Object.assign(document.createElement("span"), { className: "dots", ariaHidden: "true" });
    if (flags.length) dots.append(Object.assign(document.createElement("span"), { className: "flag", textContent: "!", title: flags.join("; ") }));
    if (tags.length) dots.append(Object.assign(document.createElement("span"), { textContent: tags.length > 1 ? tags.length : tags[0], title: tags.join(", ") }));
    tile.append(dots);
  }
  tile.dataset.moments = moments;
  tile.setAttribute(
    "aria-label",
    [
      value ? `${value} ${label}` : label, // as it is written below the image
      value && gallery.dataset.sort,
      subject && `subject ${subject}`,
      moments > 1 && `clip of ${moments} pictures`,
      ...flags,
      tags.length && `tags: ${tags.join(", ")}`,
      hidden && "not shown: no free licence",
    ].filter(Boolean).join(", "),
  );
  tile.title = [label, subject, ...flags, ...tags].filter(Boolean).join(", ");
}

/** Draw one cell of a sheet of thumbnails on a canvas. */
function drawCell(canvas, bitmap, number, columns) {
  const width = bitmap.width / columns;
  const height = (width * order.height) / order.width;
  canvas.width = Math.round(width);
  canvas.height = Math.round(height);
  const x = (number % columns) * width;
  const y = Math.floor(number / columns) * Math.round(height);
  canvas.getContext("2d").drawImage(bitmap, x, y, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
}

// ---- Clips play while the pointer is on them

let playing = null;

async function play(tile) {
  const place = Number(tile.dataset.place);
  const count = Math.min(32, Number(tile.dataset.moments));
  if (!(count > 1) || playing?.tile === tile) return;
  stopPlaying();
  const mine = (playing = { tile, timer: 0 });
  const answer = await fetch(`/moments/${gallery.dataset.set}/${order.positions[place]}`);
  if (!answer.ok) return;
  const strip = await createImageBitmap(await answer.blob());
  if (playing !== mine) return strip.close();
  let moment = 0;
  mine.strip = strip;
  mine.timer = setInterval(() => drawCell(tile.querySelector("canvas"), strip, moment++ % count, count), FRAME_MS);
}

function stopPlaying() {
  if (!playing) return;
  clearInterval(playing.timer);
  playing.strip?.close();
  const place = Number(playing.tile.dataset.place);
  playing = null;
  fill(place);
}

// ---- Selection

function showCount() {
  const all = order.positions.length;
  const text = `${all.toLocaleString("en")} ${all === 1 ? "image" : "images"}`;
  if (!all) selected.clear();
  field("count").textContent = !all ? "No image passes these filters" : selected.size ? `${selected.size.toLocaleString("en")} selected of ${text}` : text;
  for (const [place, tile] of tiles) tile.setAttribute("aria-selected", selected.has(order.positions[place]));
}

function selectRange(from, to, on = true) {
  for (let place = Math.min(from, to); place <= Math.max(from, to); place++) {
    if (on) selected.add(order.positions[place]);
    else selected.delete(order.positions[place]);
  }
}

function toggle(place) {
  const position = order.positions[place];
  selected.has(position) ? selected.delete(position) : selected.add(position);
}

function moveTo(place, { extend = false } = {}) {
  if (!order.positions.length) return;
  const before = current;
  current = Math.max(0, Math.min(order.positions.length - 1, place));
  if (extend) selectRange(anchor, current);
  else anchor = current;
  if (tiles.has(before)) tiles.get(before).tabIndex = -1;
  showTile(current);
  const tile = tiles.get(current);
  tile.focus({ preventScroll: true });
  tile.scrollIntoView({ block: "nearest" });
  if (extend) showCount();
}

// The pointer focuses a tile before the click; a range begins where the focus was.
grid.addEventListener("mousedown", (event) => event.preventDefault());

grid.addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile) return;
  const place = Number(tile.dataset.place);
  if (event.shiftKey) selectRange(anchor, place);
  else {
    if (event.ctrlKey || event.metaKey) toggle(place);
    else {
      const alone = selected.size === 1 && selected.has(order.positions[place]);
      selected = new Set(alone ? [] : [order.positions[place]]);
    }
    anchor = place;
  }
  const kept = anchor;
  moveTo(place);
  anchor = kept;
  showCount();
});

grid.addEventListener("dblclick", (event) => {
  const tile = event.target.closest(".tile");
  if (tile) openLarge(Number(tile.dataset.place));
});

grid.addEventListener("pointerover", (event) => {
  const tile = event.target.closest(".tile");
  if (tile) play(tile);
});
grid.addEventListener("pointerleave", stopPlaying);

grid.addEventListener("keydown", (event) => {
  const page = Math.max(1, Math.floor(innerHeight / (shape.height + GAP)) - 1) * shape.columns;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -shape.columns, ArrowDown: shape.columns, PageUp: -page, PageDown: page };
  const ends = { Home: 0, End: order.positions.length - 1 };
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key in steps && plain) moveTo(current + steps[event.key], { extend: event.shiftKey });
  else if (event.key in ends) moveTo(ends[event.key], { extend: event.shiftKey });
  else if (event.key === " ") {
    if (event.shiftKey) selectRange(anchor, current);
    else {
      toggle(current);
      anchor = current;
    }
    showCount();
  } else if (event.key === "Enter") openLarge(current);
  else if (event.key === "Escape") clearSelection();
  else if (event.key.toLowerCase() === "a" && !event.altKey) selectAll();
  else if (event.key === "t" && plain) field("tag-name")?.focus();
  else if ((event.key === "u" && plain) || (event.key === "z" && (event.ctrlKey || event.metaKey))) undo();
  else return;
  event.preventDefault();
});

grid.addEventListener("focusin", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile || Number(tile.dataset.place) === current) return;
  if (tiles.has(current)) tiles.get(current).tabIndex = -1;
  current = anchor = Number(tile.dataset.place);
  tile.tabIndex = 0;
});

grid.addEventListener("focus", () => order.positions.length && moveTo(current));

function selectAll() {
  selected = new Set(order.positions);
  showCount();
}

function clearSelection() {
  selected = new Set();
  showCount();
}

async function openLarge(place) {
  const answer = await fetch(`/gallery/image?set=${gallery.dataset.set}&at=${order.positions[place]}`, { headers: { "HX-Request": "true" } });
  dialog.innerHTML = await answer.text();
  const close = Object.assign(document.createElement("button"), { textContent: "Close", autofocus: true });
  close.addEventListener("click", () => dialog.close());
  dialog.append(close);
  dialog.showModal();
}
dialog.addEventListener("close", () => tiles.get(current)?.focus());

// ---- Tags and exports

function readSelection() {
  if (!selected.size) {
    say("Select images first: click them, or press Space on one.");
    return null;
  }
  return [...selected];
}

/** Read the facts of all loaded images again, after a change of tags. */
function reloadFacts() {
  for (const block of blocks.values()) block.bitmap?.close();
  blocks = new Map();
  draw();
}

async function changeTag(add) {
  const positions = readSelection();
  const tag = field("tag-name").value;
  if (!positions) return;
  try {
    const answer = await post("/gallery/tags", { set: gallery.dataset.set, positions, tag, add });
    field("undo").disabled = !answer.undoable;
    if (add && ![...field("known-tags").options].some((option) => option.value === tag)) {
      field("known-tags").append(new Option(tag, tag));
      field("tag").append(new Option(tag, tag));
    }
    say(answer.text);
    reloadFacts();
  } catch (fault) {
    say(fault.message);
  }
}

async function undo() {
  try {
    const answer = await post("/gallery/undo", {});
    field("undo").disabled = !answer.undoable;
    say(answer.text);
    reloadFacts();
  } catch (fault) {
    say(fault.message);
  }
}

async function exportSelection() {
  const positions = readSelection();
  if (!positions) return;
  const to = field("export-to").value;
  const answer = await fetch("/gallery/export", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify({ set: gallery.dataset.set, positions, to, name: field("export-name").value }),
  });
  const text = await answer.text();
  if (!answer.ok) {
    say(new DOMParser().parseFromString(text, "text/html").querySelector('[role="alert"], p')?.textContent ?? text);
  } else if (to === "list") {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `${gallery.dataset.set}-selection.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    say(`A list of ${positions.length.toLocaleString("en")} images was saved.`);
  } else say(text);
}

field("select-all").addEventListener("click", selectAll);
field("clear").addEventListener("click", clearSelection);
field("tagging")?.addEventListener("submit", (event) => {
  event.preventDefault();
  changeTag(true);
});
field("untag")?.addEventListener("click", () => changeTag(false));
field("undo")?.addEventListener("click", undo);
field("export-to")?.addEventListener("change", () => (field("export-name").hidden = field("export-to").value === "list"));
field("exporting")?.addEventListener("submit", (event) => {
  event.preventDefault();
  exportSelection();
});

// ---- The form, the address and the window

/** Put the state into the address, and load what it asks for; another set is another page. */
function follow(event) {
  if (event?.target.id === "set") {
    location.href = `/gallery?set=${encodeURIComponent(field("set").value)}`;
    return;
  }
  history.replaceState(null, "", `/gallery?${readState()}`);
  gallery.dataset.sort = field("sort").selectedOptions[0].textContent;
  load();
}

form.addEventListener("change", (event) => event.target.id !== "size" && follow(event));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  follow();
});
field("size").addEventListener("input", () => {
  field("size-text").textContent = field("size").value;
  history.replaceState(null, "", `/gallery?${readState()}`);
  const seen = current;
  clearTiles();
  layOut();
  current = seen;
});
addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", () => requestAnimationFrame(layOut));

form.querySelector(".go").hidden = true;
if (innerWidth < 640) field("filtering").open = false;
gallery.hidden = false;
grid.tabIndex = -1;
load();

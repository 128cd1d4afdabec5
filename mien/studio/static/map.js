// The map of faces: a plane with a lasso, histograms that filter each other, and a choice of faces
// that is kept in the address.

import { get, say } from "/static/studio.js";

const SVG = "http://www.w3.org/2000/svg";
const BINS = 30, HIT = 12, SHOWN_FACES = 24, WIDTH = 280, HEIGHT = 64;
const MARKS = ["circle", "square", "triangle"];
const INKS = ["--map-0", "--map-1", "--map-2", "--map-3", "--map-4", "--map-5", "--map-6", "--map-7"];
const TITLES = {
  x: "place on axis 1",
  y: "place on axis 2",
  distance: "distance to the nearest training face",
  agreement: "the judge's probability of the label",
  entropy: "entropy of the judge's answer, in bits",
};

const root = document.getElementById("mapper");
const plane = document.getElementById("plane");
const context = plane.getContext("2d");
const preview = document.getElementById("preview");
const data = await get(`/map/${root.dataset.run}/points`);
const count = data.x.length;
const sieves = Object.keys(TITLES).filter((name) => data[name].some((value) => value !== null));
const extent = Object.fromEntries(sieves.map((name) => [name, findExtent(data[name])]));

// The number of faces of each side's set, as the page says
const sizes = data.sides.map((side) => Number(document.querySelector(`#links a[data-side="${side}"]`)?.dataset.size ?? 0));

// The choice: sides, a class, a range of each number, and a line drawn around points
const choice = { sides: new Set(data.sides), emotion: "", ranges: {}, lasso: [] };
let chosen = new Uint8Array(count), current = -1, drawing = null;

root.hidden = false;
document.getElementById("result").hidden = false;
for (const name of data.emotions) document.getElementById("class").add(new Option(name, name));
readAddress();
const parts = Object.fromEntries(sieves.map((name) => [name, buildSieve(name)]));
renew();

// Numbers

function findExtent(values) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known);
  return [low, high > low ? high : low + 1];
}

/** Whether a point passes all filters, but for that of `without`: a number, or the class. */
function passes(n, without) {
  if (!choice.sides.has(data.sides[data.side[n]])) return false;
  if (choice.emotion && without !== "emotion" && data.emotions[data.emotion[n]] !== choice.emotion) return false;
  for (const [name, [low, high]] of Object.entries(choice.ranges)) {
    const value = data[name][n];
    if (name !== without && (value === null || value < low || value > high)) return false;
  }
  return choice.lasso.length < 3 || isInside(data.x[n], data.y[n], choice.lasso);
}

/** Whether a place is inside a polygon: a line from it crosses the border an odd number of times. */
function isInside(x, y, polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

function format(value) {
  return Number.isFinite(value) ? Number(value.toPrecision(4)).toString() : "";
}

// The address

function readAddress() {
  const query = new URLSearchParams(location.search);
  if (query.has("sides")) choice.sides = new Set(query.get("sides").split(",").filter(Boolean));
  choice.emotion = data.emotions.includes(query.get("class")) ? query.get("class") : "";
  for (const name of sieves) {
    const bounds = (query.get(name) ?? "").split("..").map(Number);
    if (bounds.length === 2 && bounds.every(Number.isFinite)) choice.ranges[name] = bounds;
  }
  const flat = (query.get("around") ?? "").split(",").map(Number);
  if (flat.length >= 6 && flat.length % 2 === 0 && flat.every(Number.isFinite)) {
    choice.lasso = flat.filter((_, n) => n % 2 === 0).map((x, n) => [x, flat[2 * n + 1]]);
  }
  for (const box of document.querySelectorAll('input[name="side"]')) box.checked = choice.sides.has(box.value);
  document.getElementById("class").value = choice.emotion;
}

function writeAddress() {
  const query = new URLSearchParams();
  const shown = [...document.querySelectorAll('input[name="side"]')];
  if (shown.some((box) => !box.checked)) query.set("sides", [...choice.sides].join(","));
  if (choice.emotion) query.set("class", choice.emotion);
  for (const [name, bounds] of Object.entries(choice.ranges)) query.set(name, bounds.map(format).join(".."));
  if (choice.lasso.length > 2) query.set("around", choice.lasso.flat().map(format).join(","));
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}

// Renewing everything that follows from the choice

function renew() {
  for (let n = 0; n < count; n++) chosen[n] = passes(n) ? 1 : 0;
  writeAddress();
  drawPlane();
  for (const name of sieves) fillSieve(name);
  countClasses();
  showResult();
}

/** Say behind each class how many of its faces pass the other filters. */
function countClasses() {
  const all = new Map(), own = new Map();
  for (let n = 0; n < count; n++) {
    const name = data.emotions[data.emotion[n]];
    all.set(name, (all.get(name) ?? 0) + 1);
    if (passes(n, "emotion")) own.set(name, (own.get(name) ?? 0) + 1);
  }
  for (const option of document.getElementById("class").options) {
    if (option.value) option.text = `${option.value} (${own.get(option.value) ?? 0} of ${all.get(option.value)})`;
  }
}

function showResult() {
  const total = chosen.reduce((sum, one) => sum + one, 0);
  const all = total === count;
  document.getElementById("count").textContent = all
    ? `All ${count.toLocaleString("en")} faces of the map. Draw a line around some, or set a range.`
    : `${total.toLocaleString("en")} of ${count.toLocaleString("en")} faces.`;
  for (const link of document.querySelectorAll("#links a")) {
    const run = data.runs.indexOf(link.dataset.run), side = data.sides.indexOf(link.dataset.side);
    const own = [];
    for (let n = 0; n < count; n++) if (chosen[n] && data.run[n] === run && data.side[n] === side) own.push(data.position[n]);
    link.parentElement.hidden = !own.length;
    link.querySelector("span").textContent = own.length.toLocaleString("en");
    link.href = `/gallery?set=${link.dataset.run}${own.length < sizes[side] ? `&only=${link.dataset.run}:${joinRanges(own)}` : ""}`;
  }
  // Some of them, evenly spaced, since the frames of a clip look alike
  const shown = [];
  for (let n = 0; n < count; n++) if (chosen[n] && !data.hidden[n]) shown.push(n);
  const step = Math.max(1, shown.length / SHOWN_FACES);
  const faces = [];
  for (let at = 0; at < shown.length && faces.length < SHOWN_FACES; at += step) faces.push(shown[Math.floor(at)]);
  document.getElementById("thumbs").replaceChildren(...(all ? [] : faces.map(makeThumbnail)));
}

/** Return positions as text: 3-7,9 for 3, 4, 5, 6, 7 and 9. */
function joinRanges(positions) {
  const sorted = [...positions].sort((a, b) => a - b), texts = [];
  for (let i = 0; i < sorted.length; i++) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i++;
    texts.push(sorted[i] === first ? `${first}` : `${first}-${sorted[i]}`);
  }
  return texts.join(",");
}

function describe(n) {
  const texts = [`${data.sides[data.side[n]]}, ${data.emotions[data.emotion[n]]}`];
  if (data.distance[n] !== null) texts.push(`distance ${format(data.distance[n])}`);
  if (data.agreement[n] !== null) texts.push(`judged ${data.predicted[n]}, label ${Math.round(100 * data.agreement[n])} %`);
  return texts.join("; ");
}

function makeThumbnail(n) {
  const item = document.createElement("li"), link = document.createElement("a"), image = new Image(72, 72);
  link.href = `/gallery/image?set=${data.runs[data.run[n]]}&at=${data.position[n]}`;
  image.src = `/image/${data.runs[data.run[n]]}/${data.position[n]}?size=96`;
  image.alt = image.title = describe(n);
  image.loading = "lazy";
  link.append(image);
  item.append(link);
  return item;
}

// The plane

function place(n) {
  const [left, right] = extent.x, [low, high] = extent.y, edge = 16;
  const w = plane.clientWidth, h = plane.clientHeight;
  const scale = Math.min((w - 2 * edge) / (right - left), (h - 2 * edge) / (high - low));
  return [w / 2 + (data.x[n] - (left + right) / 2) * scale, h / 2 - (data.y[n] - (low + high) / 2) * scale];
}

function unplace(px, py) {
  const [left, right] = extent.x, [low, high] = extent.y, edge = 16;
  const w = plane.clientWidth, h = plane.clientHeight;
  const scale = Math.min((w - 2 * edge) / (right - left), (h - 2 * edge) / (high - low));
  return [(px - w / 2) / scale + (left + right) / 2, (h / 2 - py) / scale + (low + high) / 2];
}

function findInk(style, n, by) {
  if (by === "side") return style.getPropertyValue(INKS[data.side[n]]);
  if (by === "emotion") return style.getPropertyValue(INKS[data.emotion[n] % INKS.length]);
  const value = data[by][n], [low, high] = extent[by] ?? [0, 1];
  if (value === null) return style.getPropertyValue("--soft");
  return `hsl(${250 - 210 * ((value - low) / (high - low))} 75% ${style.getPropertyValue("--map-light").trim() || "42%"})`;
}

function drawPlane() {
  const ratio = devicePixelRatio || 1, w = plane.clientWidth, h = plane.clientHeight;
  plane.width = Math.round(w * ratio);
  plane.height = Math.round(h * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, w, h);
  const style = getComputedStyle(document.documentElement), by = document.getElementById("colour").value;
  const size = count > 3000 ? 2 : 3;
  for (const wanted of [0, 1]) {
    context.globalAlpha = wanted ? 0.9 : 0.1;
    for (let n = 0; n < count; n++) {
      if (chosen[n] !== wanted || !choice.sides.has(data.sides[data.side[n]])) continue;
      context.fillStyle = findInk(style, n, by);
      drawMark(MARKS[data.side[n]], ...place(n), size);
    }
  }
  context.globalAlpha = 1;
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = 2;
  const line = drawing ?? choice.lasso.map(([x, y]) => placeAt(x, y));
  if (line.length > 1) {
    context.beginPath();
    line.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (!drawing) context.closePath();
    context.stroke();
  }
  if (current >= 0) {
    context.beginPath();
    context.arc(...place(current), 8, 0, 2 * Math.PI);
    context.stroke();
  }
  const texts = by === "side" || by === "emotion" ? [] : [`Blue is ${format(extent[by][0])}, red ${format(extent[by][1])}.`];
  document.getElementById("legend").textContent = [
    "Circles are training faces, squares held-out people, triangles synthetic faces.", ...texts].join(" ");
}

function placeAt(x, y) {
  const [left, right] = extent.x, [low, high] = extent.y, edge = 16;
  const w = plane.clientWidth, h = plane.clientHeight;
  const scale = Math.min((w - 2 * edge) / (right - left), (h - 2 * edge) / (high - low));
  return [w / 2 + (x - (left + right) / 2) * scale, h / 2 - (y - (low + high) / 2) * scale];
}

function drawMark(mark, x, y, size) {
  context.beginPath();
  if (mark === "circle") context.arc(x, y, size, 0, 2 * Math.PI);
  else if (mark === "square") context.rect(x - size, y - size, 2 * size, 2 * size);
  else {
    context.moveTo(x, y - 1.3 * size);
    context.lineTo(x + 1.2 * size, y + size);
    context.lineTo(x - 1.2 * size, y + size);
  }
  context.fill();
}

function showPreview(n) {
  current = n;
  preview.hidden = n < 0;
  if (n >= 0) {
    const [x, y] = place(n), image = preview.querySelector("img");
    image.hidden = Boolean(data.hidden[n]);
    if (!data.hidden[n]) image.src = `/image/${data.runs[data.run[n]]}/${data.position[n]}?size=96`;
    preview.querySelector("span").textContent = describe(n) + (data.hidden[n] ? "; the face is not shown" : "");
    preview.classList.toggle("left", x > plane.clientWidth / 2);
    preview.classList.toggle("above", y > plane.clientHeight / 2);
  }
  drawPlane();
}

function findNearest(px, py, most) {
  let best = -1, least = most * most;
  for (let n = 0; n < count; n++) {
    if (!chosen[n]) continue;
    const [x, y] = place(n), gap = (x - px) ** 2 + (y - py) ** 2;
    if (gap < least) [best, least] = [n, gap];
  }
  return best;
}

plane.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  plane.setPointerCapture(event.pointerId);
  drawing = [[event.offsetX, event.offsetY]];
});
plane.addEventListener("pointermove", (event) => {
  if (drawing) {
    drawing.push([event.offsetX, event.offsetY]);
    drawPlane();
    return;
  }
  const nearest = findNearest(event.offsetX, event.offsetY, HIT);
  if (nearest !== current) showPreview(nearest);
});
plane.addEventListener("pointerup", () => {
  const line = drawing ?? [];
  drawing = null;
  if (line.length > 5) {
    const every = Math.ceil(line.length / 60);
    choice.lasso = line.filter((_, n) => n % every === 0).map(([x, y]) => unplace(x, y));
    showPreview(-1);
    renew();
    say(document.getElementById("count").textContent);
  } else drawPlane();
});
plane.addEventListener("pointerleave", () => !drawing && showPreview(-1));

// With the keyboard: arrows go from face to face
plane.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const [cx, cy] = current < 0 ? [plane.clientWidth / 2, plane.clientHeight / 2] : place(current);
  let best = -1, least = Infinity;
  for (let n = 0; n < count; n++) {
    if (!chosen[n] || n === current) continue;
    const [x, y] = place(n), ahead = (x - cx) * step[0] + (y - cy) * step[1];
    const aside = Math.abs((x - cx) * step[1]) + Math.abs((y - cy) * step[0]);
    if (ahead > 0.5 && ahead + 3 * aside < least) [best, least] = [n, ahead + 3 * aside];
  }
  if (best >= 0) {
    showPreview(best);
    say(describe(best));
  }
});

// The histograms

function buildSieve(name) {
  const box = document.createElement("fieldset"), legend = document.createElement("legend");
  legend.textContent = TITLES[name];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("bars");
  const [low, high] = extent[name];
  const fields = ["from", "to"].map((word, side) => {
    const label = document.createElement("label"), input = document.createElement("input");
    input.type = "number";
    input.step = "any";
    input.placeholder = format(extent[name][side]);
    input.addEventListener("change", () => setRange(name, ...fields.map((one, n) => (one.value === "" ? extent[name][n] : Number(one.value)))));
    label.append(`${word} `, input);
    return input;
  });
  const row = document.createElement("div");
  row.classList.add("fields");
  row.append(...fields.map((input) => input.parentElement));
  box.append(legend, svg, row);
  document.getElementById("sieves").append(box);

  // Drag over the bars
  let start = null;
  const read = (event) => low + ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * (high - low);
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    start = read(event);
  });
  svg.addEventListener("pointermove", (event) => start !== null && setRange(name, start, read(event)));
  svg.addEventListener("pointerup", (event) => {
    if (start !== null && Math.abs(read(event) - start) < (high - low) / 100) setRange(name, low, high);
    start = null;
  });
  return { svg, fields };
}

function setRange(name, from, to) {
  const [low, high] = extent[name];
  const bounds = [Math.max(low, Math.min(from, to)), Math.min(high, Math.max(from, to))];
  if (bounds[0] <= low && bounds[1] >= high) delete choice.ranges[name];
  else choice.ranges[name] = bounds;
  renew();
}

function fillSieve(name) {
  const { svg, fields } = parts[name], [low, high] = extent[name];
  const all = new Array(BINS).fill(0), own = new Array(BINS).fill(0);
  for (let n = 0; n < count; n++) {
    const value = data[name][n];
    if (value === null || !choice.sides.has(data.sides[data.side[n]])) continue;
    const bin = Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS));
    all[bin]++;
    if (passes(n, name)) own[bin]++;
  }
  const most = Math.max(...all, 1), width = WIDTH / BINS, range = choice.ranges[name] ?? extent[name];
  const bars = [];
  const band = makeBar("band", ((range[0] - low) / (high - low)) * WIDTH, 0, ((range[1] - range[0]) / (high - low)) * WIDTH, HEIGHT);
  if (choice.ranges[name]) bars.push(band);
  for (let bin = 0; bin < BINS; bin++) {
    for (const [kind, number] of [["all", all[bin]], ["own", own[bin]]]) {
      const height = (number / most) * (HEIGHT - 4);
      if (number) bars.push(makeBar(kind, bin * width + 0.5, HEIGHT - Math.max(1, height), width - 1, Math.max(1, height)));
    }
  }
  svg.replaceChildren(...bars);
  fields.forEach((input, side) => {
    if (document.activeElement !== input) input.value = choice.ranges[name] ? format(choice.ranges[name][side]) : "";
  });
}

function makeBar(kind, x, y, width, height) {
  const bar = document.createElementNS(SVG, "rect");
  for (const [key, value] of Object.entries({ x, y, width, height })) bar.setAttribute(key, value);
  bar.classList.add(kind);
  return bar;
}

// The fields

for (const box of document.querySelectorAll('input[name="side"]')) {
  box.addEventListener("change", () => {
    choice.sides[box.checked ? "add" : "delete"](box.value);
    renew();
  });
}
document.getElementById("class").addEventListener("change", (event) => {
  choice.emotion = event.target.value;
  renew();
});
document.getElementById("colour").addEventListener("change", drawPlane);
document.getElementById("clear").addEventListener("click", () => {
  Object.assign(choice, { sides: new Set(data.sides), emotion: "", ranges: {}, lasso: [] });
  for (const box of document.querySelectorAll('input[name="side"]')) box.checked = true;
  document.getElementById("class").value = "";
  renew();
});
addEventListener("resize", drawPlane);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlane);

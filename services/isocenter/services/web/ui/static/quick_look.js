// The images of a series, one at a time: wheel, keys, slider, cine, contrast by dragging.
const look = document.getElementById("look");
const web = look.dataset.web;
const images = JSON.parse(look.dataset.images);
const frames = images.flatMap(([uid, count]) =>
  Array.from({ length: count }, (_, at) => ({ uid, frame: at + 1 })));
const figure = look.querySelector("figure");
const shown = figure.querySelector("img");
const caption = figure.querySelector("figcaption");
const controls = look.querySelector(".controls");
const slider = controls.querySelector("input[type=range]");
const control = (name) => controls.querySelector(`[data-does=${name}]`);

const KEPT = 200; // pictures
const AHEAD = 6;
const pictures = new Map();
const startsAt = images.slice(0, Number(look.dataset.at) - 1).reduce((sum, [, count]) => sum + count, 0);
let at = 0;
let contrast = null; // {center, width}; null: as stored
let stored = null; // what the object says, once it is known
let timer = 0;

function address({ uid, frame }) {
  const base = `${web}/instances/${uid}/frames/${frame}/rendered`;
  return contrast ? `${base}?window=${contrast.center},${contrast.width},linear` : base;
}

function picture(number) {
  const url = address(frames[number]);
  let found = pictures.get(url);
  if (found) pictures.delete(url); // the one used last stands last
  else {
    found = new Image();
    found.src = url;
    if (pictures.size >= KEPT) pictures.delete(pictures.keys().next().value);
  }
  pictures.set(url, found);
  return found;
}

async function show(number) {
  at = Math.max(0, Math.min(number, frames.length - 1));
  slider.value = at + 1;
  caption.textContent = `${at + 1} / ${frames.length}`;
  control("attributes").href = `${location.pathname}/instances/${frames[at].uid}`;
  look.dispatchEvent(new CustomEvent("shown", { detail: frames[at] }));
  const wanted = picture(at);
  try { await wanted.decode(); } catch {
    if (address(frames[at]) === wanted.getAttribute("src")) {
      caption.textContent += " – this image cannot be shown";
      shown.alt = "This image cannot be shown";
    }
    return;
  }
  if (address(frames[at]) !== wanted.getAttribute("src")) return; // gone on meanwhile
  shown.src = wanted.src;
  shown.alt = `Image ${at + 1} of ${frames.length}`;
  for (let next = at + 1; next <= at + AHEAD && next < frames.length; next++) picture(next);
}

async function contrastOf() {
  if (stored) return stored;
  const answer = await fetch(`${web}/instances/${frames[at].uid}/metadata`, {
    headers: { accept: "application/dicom+json" } });
  const [object] = answer.ok ? await answer.json() : [{}];
  const number = (tag) => Number(object[tag]?.Value?.[0]);
  const bits = number("00280101") || 8;
  const slope = number("00281053") || 1, intercept = number("00281052") || 0;
  stored = {
    center: number("00281050") || (2 ** bits / 2) * slope + intercept,
    width: number("00281051") || 2 ** bits * slope,
  };
  return stored;
}

function setContrast(center, width) {
  contrast = { center: Number(center.toFixed(2)), width: Math.max(1, Number(width.toFixed(2))) };
  control("center").value = contrast.center;
  control("width").value = contrast.width;
  show(at);
}

async function changeContrast(dCenter, dWidth) {
  const now = contrast ?? await contrastOf();
  setContrast(now.center + dCenter, now.width + dWidth);
}

function play(isOn) {
  clearInterval(timer);
  timer = 0;
  if (isOn) {
    const speed = Math.min(60, Math.max(1, Number(control("speed").value) || 10));
    timer = setInterval(() => show((at + 1) % frames.length), 1000 / speed);
  }
  control("play").textContent = isOn ? "Stop" : "Play";
}

slider.max = frames.length;
controls.hidden = false;
document.querySelector(".without-script")?.remove();
slider.addEventListener("input", () => show(Number(slider.value) - 1));
control("play").addEventListener("click", () => play(!timer));
control("speed").addEventListener("change", () => timer && play(true));
control("reset").addEventListener("click", () => {
  contrast = null;
  control("center").value = control("width").value = "";
  show(at);
});
for (const name of ["center", "width"]) {
  control(name).addEventListener("change", async () => {
    const now = contrast ?? await contrastOf();
    const value = (which) => Number(control(which).value) || now[which];
    setContrast(value("center"), value("width"));
  });
}
figure.addEventListener("wheel", (event) => {
  event.preventDefault();
  show(at + Math.sign(event.deltaY));
}, { passive: false });
figure.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10,
    Home: -frames.length, End: frames.length }[event.key];
  if (step) show(at + step);
  else if (event.key === " ") play(!timer);
  else if (event.key === "+" || event.key === "-") contrastOf().then(({ width }) =>
    changeContrast(0, (event.key === "+" ? -0.1 : 0.1) * (contrast?.width ?? width)));
  else return;
  event.preventDefault();
});
let drag = null;
figure.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault(); // the browser would drag the picture away
  figure.focus();
  drag = { x: event.clientX, y: event.clientY };
  contrastOf().then((known) => { if (drag) drag.from = { ...(contrast ?? known) }; });
  figure.setPointerCapture(event.pointerId);
});
let waiting = 0;
figure.addEventListener("pointermove", (event) => {
  if (!drag?.from || waiting) return;
  const { clientX, clientY } = event;
  waiting = requestAnimationFrame(() => {
    waiting = 0;
    if (!drag) return;
    const unit = drag.from.width / 300;
    setContrast(drag.from.center + (clientY - drag.y) * unit, drag.from.width + (clientX - drag.x) * unit);
  });
});
for (const end of ["pointerup", "pointercancel"]) figure.addEventListener(end, () => { drag = null; });
show(startsAt);

// What changes by itself is asked for again, as often as its data-live says in seconds; not while
// somebody is about to use something in it, and not while nobody looks: whoever has gone is to be
// signed out, and each request would keep the session.
"use strict";

const MOST_IDLE = 300_000;
let lastUse = performance.now();
for (const kind of ["pointerdown", "pointermove", "keydown", "scroll"]) {
  addEventListener(kind, () => { lastUse = performance.now(); }, { passive: true });
}

function page(address) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(request));
    request.onerror = () => reject(request);
    request.send();
  });
}

async function renew(part) {
  const isUsed = part.matches(":focus-within") || !getSelection().isCollapsed;
  if (document.hidden || isUsed || performance.now() - lastUse > MOST_IDLE) return;
  const found = await page(location.href);
  const [fresh] = found.querySelectorAll("[data-live]");
  if (fresh && !part.matches(":focus-within")) part.replaceChildren(...fresh.childNodes);
}

for (const part of document.querySelectorAll("[data-live]")) {
  const again = () => setTimeout(() => renew(part).catch(() => {}).finally(again), part.dataset.live * 1000);
  again();
}

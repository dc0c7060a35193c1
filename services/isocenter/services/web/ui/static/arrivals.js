// Tells on the list of studies that something has come since it was made; nothing moves by itself
// under somebody's eyes.  While nobody looks, or is there, there is no connection: who has gone is to
// be signed out.
"use strict";

const note = document.getElementById("arrivals");
const KINDS = ["study.opened", "study.reopened", "study.complete", "instances.restored"];
const query = new URLSearchParams(KINDS.map((kind) => ["kind", kind]));
const studies = new Set();
const MOST_IDLE = 300_000;
let source = null;
let idle = 0;
let last = "";

function tell(text) {
  note.querySelector("a").textContent = text;
  note.hidden = false;
}

function heard(event) {
  last = event.lastEventId || last;
  studies.add(JSON.parse(event.data).study_instance_uid);
  tell(studies.size === 1 ? "One study has arrived or changed: show it"
    : `${studies.size} studies have arrived or changed: show them`);
}

function listen(isOn) {
  source?.close();
  source = null;
  if (!isOn) return;
  if (last) query.set("after", last);
  source = new EventSource(`/api/v1/events?${query}`);
  for (const kind of KINDS) source.addEventListener(kind, heard);
  source.addEventListener("reset", () => tell("Studies may have arrived: show them"));
}

function used() {
  clearTimeout(idle);
  idle = setTimeout(() => listen(false), MOST_IDLE);
  if (!source && !document.hidden) listen(true);
}

for (const kind of ["pointerdown", "keydown", "scroll"]) addEventListener(kind, used, { passive: true });
document.addEventListener("visibilitychange", () => (document.hidden ? listen(false) : used()));
addEventListener("pagehide", () => listen(false));
addEventListener("pageshow", used);

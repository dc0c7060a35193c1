// Files and folders into the archive by STOW-RS (PS3.18 10.5): a few at a time, some requests at once.
const box = document.getElementById("upload");
const root = box.dataset.root;
const drop = document.getElementById("drop");
const state = document.getElementById("state");
const progress = document.getElementById("progress");
const stop = document.getElementById("stop");
const failures = document.getElementById("failures");

const FILES = 8; // of one request
const BYTES = 64 * 2 ** 20;
const AT_ONCE = 3;
const MOST_SHOWN = 500; // failures
const REASONS = {
  0x0110: "the archive could not process it", 0x0111: "the archive has another object with this UID",
  0x0122: "the archive takes no objects of this class", 0x0124: "you may not store it",
  0xa700: "the archive has no room", 0xa900: "it does not fit its class, study or patient",
  0xc000: "it is no DICOM, or cannot be read",
};

let counts, aborter = null;

function tell() {
  const { found, stored, failed, isListing } = counts;
  progress.max = Math.max(found, 1);
  progress.value = stored + failed;
  const parts = [`${stored} of ${found}${isListing ? " or more" : ""} files stored`];
  if (failed) parts.push(`${failed} not`);
  if (!aborter) parts.push("done");
  state.textContent = parts.join(", ");
}

function fail(name, why) {
  counts.failed++;
  failures.hidden = false;
  if (failures.tBodies[0].rows.length >= MOST_SHOWN) return;
  const row = failures.tBodies[0].insertRow();
  row.insertCell().textContent = name;
  row.insertCell().textContent = why;
}

// A folder is read as it is sent: there may be more in it than memory for a list.
async function* filesOf(entry) {
  if (entry.isFile) {
    yield await new Promise((resolve, reject) => entry.file(resolve, reject));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) yield* filesOf(one);
  }
}

async function* dropped(entries) { for (const entry of entries) yield* filesOf(entry); }

// Part 10 files; and data sets without a preamble, which begin with group 0002 or 0008.
async function isDicom(file) {
  const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  if (String.fromCharCode(...head.slice(128)) === "DICM") return true;
  return head.length === 132 && (head[0] === 2 || head[0] === 8) && head[1] === 0 && head[3] === 0;
}

async function* batches(files) {
  let batch = [], size = 0;
  for await (const file of files) {
    counts.found++;
    let is = false;
    try { is = await isDicom(file); } catch { fail(file.name, "it cannot be read"); continue; }
    if (!is) { fail(file.name, "it is no DICOM file"); continue; }
    if (batch.length && (batch.length >= FILES || size + file.size > BYTES)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(file);
    size += file.size;
    tell();
  }
  counts.isListing = false;
  if (batch.length) yield batch;
}

async function send(batch, signal) {
  const boundary = `upload-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const pieces = batch.flatMap((file) =>
    [`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`, file, "\r\n"]);
  let answer, said = {};
  try {
    answer = await fetch(`${root}/studies`, {
      method: "POST", signal, body: new Blob([...pieces, `--${boundary}--\r\n`]),
      headers: {
        accept: "application/dicom+json",
        "content-type": `multipart/related; type="application/dicom"; boundary=${boundary}`,
      },
    });
    said = await answer.json();
  } catch (error) {
    if (signal.aborted) return;
    for (const file of batch) fail(file.name, `the archive did not answer: ${error.message}`);
    return;
  }
  const done = said["00081199"]?.Value?.length ?? 0;
  if (done < batch.length && batch.length > 1) {
    // Which of them it was is known when each goes alone; what is stored already stays stored.
    for (const file of batch) if (!signal.aborted) await send([file], signal);
    return;
  }
  counts.stored += done;
  if (done === batch.length) return;
  const code = said["00081198"]?.Value?.[0]?.["00081197"]?.Value?.[0];
  if (code === undefined) fail(batch[0].name, said.error?.message ?? `status ${answer.status}`);
  else {
    const kind = code >= 0xc000 ? 0xc000 : code >= 0xa900 && code < 0xaa00 ? 0xa900 : code;
    fail(batch[0].name,
      `${REASONS[kind] ?? "it was refused"} (${code.toString(16).toUpperCase().padStart(4, "0")}H)`);
  }
}

async function upload(files) {
  if (aborter) return;
  aborter = new AbortController();
  counts = { found: 0, stored: 0, failed: 0, isListing: true };
  failures.tBodies[0].replaceChildren();
  failures.hidden = true;
  progress.hidden = stop.hidden = false;
  const { signal } = aborter;
  const source = batches(files);
  const worker = async () => {
    for (;;) {
      const { value, done } = await next(source);
      if (done || signal.aborted) return;
      await send(value, signal);
      tell();
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  } catch (error) {
    fail("–", `reading stopped: ${error.message}`);
  }
  const wasStopped = signal.aborted;
  aborter = null;
  stop.hidden = true;
  tell();
  if (wasStopped) state.textContent += ", stopped";
}

// Generators may be asked by one at a time.
let turn = Promise.resolve();
function next(source) {
  const mine = turn.then(() => source.next());
  turn = mine.catch(() => {});
  return mine;
}

box.hidden = false;
for (const id of ["files", "folder"]) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => { upload([...input.files]); input.value = ""; });
}
stop.addEventListener("click", () => aborter?.abort());
for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  upload(dropped(entries));
});
addEventListener("beforeunload", (event) => { if (aborter) event.preventDefault(); });

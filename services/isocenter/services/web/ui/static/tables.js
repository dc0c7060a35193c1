// Each list that the server does not give as comma-separated values itself is made into such a file
// here, as it stands on the page (RFC 4180).
"use strict";

const FORMULA = /^[=+\-@\t\r]/;

function cell(element) {
  const text = element.innerText.trim().replace(/\s*\n\s*/g, "; ");
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\n;]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// Columns of buttons and of boxes to mark are none of the list's.
function isShown(element) {
  return element.innerText.trim() !== "" && !element.querySelector("form, button, .unseen");
}

function lines(table) {
  const [head] = table.tHead.rows;
  const wanted = [...head.cells].map(isShown);
  const rows = [...table.rows].map((row) => [...row.cells].filter((_, at) => wanted[at]));
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function save(table, name) {
  const link = document.createElement("a");
  // The mark makes spreadsheets read it as UTF-8.
  link.href = URL.createObjectURL(new Blob(["\ufeff", lines(table)], { type: "text/csv;charset=utf-8" }));
  link.download = `${name.toLowerCase().replace(/\W+/g, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function offer(region) {
  const table = region.querySelector("table");
  if (!table?.tHead || region.nextElementSibling?.classList.contains("as-csv")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "As CSV";
  button.setAttribute("aria-label", `As CSV: ${region.getAttribute("aria-label")}`);
  button.addEventListener("click", () => save(table, region.getAttribute("aria-label")));
  const line = document.createElement("p");
  line.className = "as-csv";
  line.append(button);
  region.after(line);
}

function offerAll() {
  if (document.querySelector("a[download][href*='.csv']")) return;
  document.querySelectorAll(".wide[role='region']").forEach(offer);
}

offerAll();
// What renews itself brings new lists.
for (const part of document.querySelectorAll("[data-live]")) {
  new MutationObserver(offerAll).observe(part, { childList: true });
}

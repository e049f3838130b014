"use strict";

// Sorts the rows of the table of results by the heading that is pressed; a second press turns the order around.
const table = document.getElementById("results");
const body = table.tBodies[0];
const words = new Intl.Collator("en", { numeric: true });

// The figure of a cell, or its text; null where nothing was measured.
function valueOf(row, column) {
  const cell = row.cells[column];
  if (cell === undefined || cell.colSpan > 1) return null;
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.innerText.trim();
  return text === "–" || text === "-" || text === "" ? null : text;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : words.compare(a, b);
}

function sort(heading, first) {
  const turned = { ascending: "descending", descending: "ascending" };
  const order = turned[heading.getAttribute("aria-sort")] ?? first;
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  // The runs of a mean stay below it.
  const rows = [];
  for (const row of body.rows) {
    if (row.classList.contains("run")) rows.at(-1).runs.push(row);
    else rows.push({ row, value: valueOf(row, heading.cellIndex), runs: [] });
  }
  // Array.sort is stable: rows of the same value keep their order, and what was not measured comes last either way.
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return sign * compare(a.value, b.value);
  });
  body.append(...rows.flatMap((entry) => [entry.row, ...entry.runs]));
}

for (const button of table.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sort(button.closest("th"), button.dataset.first));
}

// A table that goes on to the right fades out there.
for (const frame of document.querySelectorAll(".scroll")) {
  const mark = () => frame.classList.toggle("more", frame.scrollWidth - frame.clientWidth - frame.scrollLeft > 1);
  frame.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(frame);
}

// The table of all trials: sorted and searched here, shown a page at a time.
const columns = [
  ["trial", true], ["kind", false], ["outcome", false], [report.metric, true],
  ["parameters", true], ["multiply-adds", true], ["epochs", true], ["device s", true],
  ["made by", false], ["architecture", false],
];
const [VALUE, ARCHITECTURE, PAGE] = [3, 9, 200];
const rows = report.rows.map(row => ({ row, text: row.join(" ").toLowerCase() }));
const head = document.querySelector("#table thead tr");
const body = document.querySelector("#table tbody");
const filter = document.getElementById("filter");
const found = document.getElementById("found");
const more = document.getElementById("more");
let [sorted, ascending, limit] = [0, true, PAGE];

function show(column, value) {
  if (value === null || value === "") return "–";
  if (typeof value !== "number") return value;
  return column === VALUE && Math.abs(value) < 1000 ? value.toFixed(4) : value.toLocaleString("en");
}
function compareRows({ row: a }, { row: b }) {
  const [x, y] = [a[sorted], b[sorted]];
  if (x === null || y === null) return (x === null) - (y === null);  // no value: always last
  return (x < y ? -1 : x > y ? 1 : 0) * (ascending ? 1 : -1) || a[0] - b[0];
}
function drawTable() {
  const wanted = filter.value.trim().toLowerCase().split(/\s+/);
  const shown = rows.filter(({ text }) => wanted.every(word => text.includes(word)));
  shown.sort(compareRows);
  body.replaceChildren(...shown.slice(0, limit).map(({ row }) => {
    const line = document.createElement("tr");
    row.forEach((value, column) => {
      const cell = line.insertCell();
      cell.textContent = show(column, value);
      cell.className = columns[column][1] ? "number" : column === ARCHITECTURE ? "brief" : "word";
    });
    return line;
  }));
  found.textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} trial${rows.length === 1 ? "" : "s"}`;
  more.hidden = shown.length <= limit;
  [...head.cells].forEach((cell, column) => cell.setAttribute("aria-sort",
    column !== sorted ? "none" : ascending ? "ascending" : "descending"));
}
columns.forEach(([label, number], column) => {
  const cell = document.createElement("th");
  const button = document.createElement("button");
  cell.scope = "col";
  if (number) cell.className = "number";
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", () => {
    ascending = sorted === column ? !ascending : column !== VALUE;
    sorted = column;
    drawTable();
  });
  cell.append(button);
  head.append(cell);
});
// All trials of the table as a file (RFC 4180), which is made here. Text that a spreadsheet would take
// for a formula begins with an apostrophe.
function csvField(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
function csv() {
  const { metrics, values, architectures } = report.more;
  const lines = [[...columns.map(([label]) => label), ...metrics]];
  report.rows.forEach((row, i) => {
    const whole = [...row];
    if (architectures.length) whole[ARCHITECTURE] = architectures[i];
    lines.push([...whole, ...(metrics.length ? values[i] : [])]);
  });
  return lines.map(line => line.map(csvField).join(",") + "\r\n").join("");
}
document.getElementById("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `${report.name}-trials.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});
filter.addEventListener("input", () => { limit = PAGE; drawTable(); });
more.addEventListener("click", () => { limit += 5 * PAGE; drawTable(); });
drawTable();

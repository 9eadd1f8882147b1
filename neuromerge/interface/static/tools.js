/* The buttons of a figure: show everything again, save as picture, drawing or numbers. */
import { picture, showAll } from "./plotly.js";
import { toCsv } from "./records.js";
import { resolve } from "./theme.js";

function save(url, filename) {
  const link = document.createElement("a");
  link.href = url;
  link.download = filename;
  link.click();
}

function saveCsv(figure) {
  const url = URL.createObjectURL(new Blob([toCsv(figure)], { type: "text/csv" }));
  save(url, `${figure.name}.csv`);
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/* Do what a button says. Without the library only the numbers can be saved. */
export async function act(action, { figure, stage, ready }) {
  if (action === "csv") saveCsv(figure);
  else if (!ready) return;
  else if (action === "reset") await showAll(stage);
  else save(await picture(stage, action, resolve("token:surface")), `${figure.name}.${action}`);
}

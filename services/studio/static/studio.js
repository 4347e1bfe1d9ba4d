// What a page does beyond its forms. Every part finds its own elements, and does nothing where there are none.
import { phrases } from "./phrases.js";
import { round } from "./round.js";
import { picks } from "./picks.js";
import { reference } from "./reference.js";
import { order } from "./order.js";
import { live } from "./live.js";
import { local, once } from "./once.js";
import { rating } from "./rating.js";

const PARTS = [
  ["[data-phrases]", phrases],
  ["[data-pick]", picks],
  ["[data-reference]", reference],
  ["[data-order]", (form) => order(form, (body) => show(form.action, { method: "POST", body }, "pushState", () => form.submit()))],
  ["[data-once]", once],
  ["[data-rating]", rating],
  ["[data-local]", local],
  ["[data-live]", (box) => live(box, (address) => show(address, {}, "replaceState", () => location.reload()))],
  ["[data-round]", (box) => round(box, (address) => show(address, {}, "replaceState", () => location.replace(address)))],
];

function begin(root) {
  for (const [selector, part] of PARTS) root.querySelectorAll(selector).forEach((found) => part(found));
}

// Shows the page that answers a request in place of this one, without loading what both have; `otherwise` loads it whole.
async function show(address, request, remember, otherwise) {
  let next, url;
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" }, ...request });
    next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !next.querySelector("main")) throw new Error(answer.statusText);
    url = answer.url;
  } catch {
    otherwise();
    return;
  }
  const main = next.querySelector("main");
  document.title = next.title;
  history[remember](null, "", url);
  document.querySelector("main").replaceWith(main);
  main.focus({ preventScroll: true }); // so a screen reader begins to read
  scrollTo(0, 0);
  begin(main);
}

window.addEventListener("popstate", () => location.reload());
begin(document);

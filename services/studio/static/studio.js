// What a page does beyond its forms. Every part finds its own elements, and does nothing where there are none.
import { phrases } from "./phrases.js";
import { round } from "./round.js";
import { picks } from "./picks.js";
import { reference } from "./reference.js";
import { order } from "./order.js";

const PARTS = [
  ["[data-phrases]", phrases],
  ["[data-pick]", picks],
  ["[data-reference]", reference],
  ["[data-order]", order],
  ["[data-round]", (box) => round(box, follow)],
];

function begin(root) {
  for (const [selector, part] of PARTS) root.querySelectorAll(selector).forEach((found) => part(found));
}

// Shows the page at an address in place of this one, without loading what both have.
async function follow(address) {
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = next.querySelector("main");
    if (!answer.ok || !main) throw new Error(answer.statusText);
    document.title = next.title;
    history.replaceState(null, "", answer.url);
    document.querySelector("main").replaceWith(main);
    main.focus(); // so a screen reader begins to read
    begin(main);
  } catch {
    location.replace(address);
  }
}

begin(document);

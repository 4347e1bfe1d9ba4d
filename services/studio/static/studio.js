// What a page does beyond its forms. Every part finds its own elements, and does nothing where there are none.
import { phrases } from "./phrases.js";
import { round } from "./round.js";
import { picks } from "./picks.js";
import { reference } from "./reference.js";
import { order } from "./order.js";

for (const [selector, part] of [
  ["[data-phrases]", phrases],
  ["[data-round]", round],
  ["[data-pick]", picks],
  ["[data-reference]", reference],
  ["[data-order]", order],
]) {
  document.querySelectorAll(selector).forEach(part);
}
document.querySelectorAll("[data-sends]").forEach((field) => {
  field.addEventListener("change", () => field.form.requestSubmit());
});

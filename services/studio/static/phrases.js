// A prompt as chips, a combobox for the next phrase, and buttons with what would please most. The prompt's own field
// stays the form's, hidden.
const ASK_MS = 120;
const OFFERED = 8; // buttons

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const folded = (text) => text.normalize("NFKC").toLowerCase().trim().replace(/\s+/g, " ");

export function phrases(box) {
  const field = box.querySelector("input");
  const form = field.form;
  const labels = new Map(Object.entries(JSON.parse(box.dataset.labels)));
  const known = new Map(Object.entries(JSON.parse(box.dataset.known)));
  const notes = form.querySelector("[data-notes]");
  const key = `prompt ${location.pathname}${location.search}`;
  const kept = history.state?.prompt ?? sessionStorage.getItem(key); // what a browser that goes back, or another language, left
  sessionStorage.removeItem(key);
  const chosen = split(kept ?? field.value).map(canonical);

  const line = element("div", { className: "line" });
  const chips = element("span", { className: "chips" });
  const input = element("input", { type: "text", autocomplete: "off", maxLength: 100, placeholder: field.placeholder });
  const options = element("ul", { className: "options", id: `${field.id}-options`, hidden: true });
  const announced = element("span", { className: "skip" });
  announced.setAttribute("aria-live", "polite");
  options.setAttribute("role", "listbox");
  options.setAttribute("aria-label", box.dataset.suggested);
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-expanded": "false", "aria-controls": options.id, "aria-autocomplete": "list",
    "aria-describedby": field.getAttribute("aria-describedby") ?? "", enterkeyhint: "next",
  })) input.setAttribute(name, value);
  input.id = field.id;
  field.removeAttribute("id");
  field.type = "hidden";
  const offers = element("div", { className: "offers" });
  offers.setAttribute("role", "group");
  offers.setAttribute("aria-label", box.dataset.suggested);
  line.append(chips, input);
  box.append(line, options, announced);
  box.after(offers);

  let active = -1;
  let timer = 0;
  let asked = 0;

  function canonical(text) { return known.get(folded(text)) ?? text.trim(); }
  function label(phrase) { return labels.get(phrase) ?? phrase; }

  function show() {
    field.value = chosen.join(",");
    history.replaceState({ ...history.state, prompt: field.value }, "");
    input.removeAttribute("aria-invalid");
    input.placeholder = chosen.length ? box.dataset.next : field.placeholder;
    chips.replaceChildren(...chosen.map((phrase, at) => {
      const chip = element("span", { className: known.has(folded(phrase)) ? "chip" : "chip unknown" });
      const remove = element("button", { type: "button", textContent: "✕" });
      remove.setAttribute("aria-label", fill(box.dataset.remove, { phrase: label(phrase) }));
      remove.addEventListener("click", () => { chosen.splice(at, 1); show(); ask(); input.focus(); });
      chip.append(label(phrase), remove);
      return chip;
    }));
  }

  function add(text) {
    for (const each of split(text)) {
      const phrase = canonical(each);
      if (!chosen.includes(phrase)) chosen.push(phrase);
    }
    input.value = "";
    show();
    ask();
  }

  function close() {
    options.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(at) {
    active = at;
    [...options.children].forEach((option, place) => {
      option.setAttribute("aria-selected", String(place === at));
      if (place === at) {
        input.setAttribute("aria-activedescendant", option.id);
        option.scrollIntoView({ block: "nearest" });
      }
    });
    if (at < 0) input.removeAttribute("aria-activedescendant");
  }

  function offer(suggestions, asList) {
    if (!asList) {
      offers.replaceChildren(...suggestions.slice(0, OFFERED).map((each) => {
        const button = element("button", { type: "button", className: "chip", textContent: `+ ${each.label}`, title: each.kind });
        button.addEventListener("click", () => { add(each.phrase); input.focus(); });
        return button;
      }));
      close();
      return;
    }
    options.replaceChildren(...suggestions.map((each, place) => {
      const option = element("li", { id: `${options.id}-${place}` });
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.dataset.phrase = each.phrase;
      option.append(element("span", { textContent: each.label }), element("span", { className: "small", textContent: each.kind }));
      option.addEventListener("mousedown", (event) => { event.preventDefault(); add(each.phrase); });
      return option;
    }));
    active = -1;
    const open = suggestions.length > 0 && document.activeElement === input;
    options.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
    announced.textContent = open ? fill(box.dataset.count, { count: suggestions.length }) : "";
  }

  function ask(asList = input.value.trim() !== "") {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const number = ++asked;
      const query = new URLSearchParams({ prompt: chosen.join(","), prefix: input.value.trim().slice(0, 100) });
      try {
        const answer = await fetch(`/suggestions?${query}`, { headers: { accept: "application/json" } });
        if (number !== asked) return;
        const told = answer.ok ? await answer.json() : { suggestions: [], unread: [], unknown: [] };
        offer(told.suggestions, asList);
        warn(told);
      } catch {
        // Without suggestions the form works all the same.
      }
    }, ASK_MS);
  }

  function warn(told) {
    const said = [];
    if (told.unknown.length) said.push(fill(box.dataset.unknown, { phrases: told.unknown.join(", ") }));
    if (field.value.length > Number(box.dataset.chars)) said.push(fill(box.dataset.long, { count: box.dataset.chars }));
    if (told.unread.length) said.push(fill(box.dataset.unread, { phrases: told.unread.join(", ") }));
    notes.replaceChildren(...said.map((text) => element("p", { className: "warning", textContent: text })));
  }

  input.addEventListener("input", (event) => {
    if (!event.isComposing && split(input.value + ".").length > 1) add(input.value); // a comma was typed
    else ask();
  });
  input.addEventListener("compositionend", () => { composing = false; if (split(input.value + ".").length > 1) add(input.value); });
  input.addEventListener("focus", () => ask());
  let composing = false; // an input method's text is not a phrase yet
  input.addEventListener("compositionstart", () => { composing = true; });
  input.addEventListener("blur", () => { if (input.value.trim() && !composing) add(input.value); close(); });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || event.ctrlKey || event.metaKey) return;
    const count = options.hidden ? 0 : options.children.length;
    if (event.key === "ArrowDown" && count) { event.preventDefault(); mark((active + 1) % count); }
    else if (event.key === "ArrowDown") { event.preventDefault(); ask(true); }
    else if (event.key === "ArrowUp" && count) { event.preventDefault(); mark((active <= 0 ? count : active) - 1); }
    else if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      event.preventDefault();
      if (active >= 0) add(options.children[active].dataset.phrase);
      else if (input.value.trim()) add(input.value);
    } else if (event.key === "Backspace" && !input.value && chosen.length) { chosen.pop(); show(); ask(); }
  });
  form.addEventListener("finish", () => { if (input.value.trim()) add(input.value); });
  form.addEventListener("submit", (event) => {
    if (input.value.trim()) add(input.value);
    if (chosen.length) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    input.setAttribute("aria-invalid", "true");
    notes.replaceChildren(element("p", { className: "problem", textContent: box.dataset.empty }));
    input.focus();
  });
  document.querySelectorAll("a[hreflang]").forEach((link) => {
    link.addEventListener("click", () => sessionStorage.setItem(key, field.value));
  });
  show();
  ask();
}

function split(text) {
  return text.split(/[,，、،\n]/).map((part) => part.trim()).filter(Boolean);
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

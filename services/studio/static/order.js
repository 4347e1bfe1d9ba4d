// The form of a round: Ctrl+Enter sends it, Enter in a field does not, and it is sent once.
export function order(form, send) {
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return; // the input method's own Enter
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      form.dispatchEvent(new Event("finish"));
      form.requestSubmit();
    } else if (event.target.tagName === "INPUT") {
      event.preventDefault();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.querySelector("[data-send]").disabled = true;
    send(new FormData(form));
  });
  form.addEventListener("invalid", (event) => { // a wrong field that nobody sees would keep the form for no reason told
    const closed = event.target.closest("details:not([open])");
    if (closed) closed.open = true;
  }, true);
  window.addEventListener("pageshow", (event) => {
    form.querySelector("[data-send]").disabled = false;
    if (event.persisted) form.elements.request_id.value = crypto.randomUUID(); // it was sent: the next one is another round
  });
}

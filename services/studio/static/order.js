// The form of a round: Ctrl+Enter sends it, Enter in a field does not, and it is sent once.
export function order(form) {
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
  form.addEventListener("submit", () => {
    const button = form.querySelector("[data-send]");
    setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => { form.querySelector("[data-send]").disabled = false; });
}

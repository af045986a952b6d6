// What the themes get wrong for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  // A fold says what it holds, and its label hides these words.
  for (const summary of document.querySelectorAll("summary[aria-label]")) summary.removeAttribute("aria-label");
  // A list may hold nothing but its items, and between the references there are targets of links.
  for (const list of document.querySelectorAll("div.citation-list")) list.removeAttribute("role");
});

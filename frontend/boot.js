// Starts the dashboard: the chosen theme before the first paint, then the app that trunk named in the meta element.
// The page names this file after its style sheets, so that the browser runs it, and with it the app, once they apply.
"use strict";

try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage can be forbidden; the system's theme will do.
}

addEventListener("DOMContentLoaded", async () => {
  const boot = document.getElementById("boot");
  if (typeof WebAssembly !== "object") {
    boot.setAttribute("role", "alert");
    boot.textContent = "The dashboard of jobqueue needs WebAssembly, which this browser does not have or does not allow.";
    return;
  }
  boot.textContent = "Loading jobqueue…";
  const { js, wasm } = document.querySelector('meta[name="jobqueue-app"]').dataset;
  try {
    const app = await import(js);
    await app.default({ module_or_path: wasm });
  } catch (error) {
    boot.setAttribute("role", "alert");
    boot.textContent = "The dashboard could not be loaded. Reload the page to try again.";
    throw error;
  }
});

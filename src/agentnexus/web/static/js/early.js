// Runs before the first paint: pages hide what needs scripts, or scripts replace, by this one class.
document.documentElement.classList.add("has-js");

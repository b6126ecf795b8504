"use strict";
// Both pages find, make and fill their elements with these.
const at = (id) => document.getElementById(id);

function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function say(text, kind = "") {
  at("status").textContent = text;
  at("status").className = kind;
}

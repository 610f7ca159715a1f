// Where and how a Solidity source can be changed by one step so that it most often still compiles.
"use strict";

const OPERATORS = {
  "==": ["!="], "!=": ["=="], "<": ["<="], "<=": ["<"], ">": [">="], ">=": [">"],
  "&&": ["||"], "||": ["&&"], "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"],
  "+=": ["-="], "-=": ["+="], "<<": [">>"], ">>": ["<<"], "|": ["&"], "&": ["|"],
};

// The text with comments and strings blanked, so that offsets stay.
function masked(text) {
  const blank = (part) => part.replace(/[^\n]/g, " ");
  return text.replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"/g, blank);
}

// Offset behind the bracket that closes the one at `open`.
function closing(code, open) {
  const pairs = { "(": ")", "{": "}" };
  for (let depth = 0, at = open; at < code.length; at += 1) {
    if (code[at] === code[open]) depth += 1;
    if (code[at] === pairs[code[open]]) depth -= 1;
    if (depth === 0) return at + 1;
  }
  return code.length;
}

function* functionBodies(code) {
  for (const match of code.matchAll(/\b(?:function\s+\w+|constructor|modifier\s+\w+)\s*/g)) {
    const end = code.slice(match.index).search(/[;{]/) + match.index;
    if (code[end] === "{") yield { head: match.index, start: end + 1, end: closing(code, end) - 1 };
  }
}

function* statements(code, { start, end }) {
  for (let at = start, begin = start, depth = 0; at < end; at += 1) {
    const sign = code[at];
    if (sign === "(" || sign === "[") depth += 1;
    if (sign === ")" || sign === "]") depth -= 1;
    if (depth !== 0) continue;
    if (sign === "{" || sign === "}") begin = at + 1;
    if (sign === ";") {
      const skipped = code.slice(begin).search(/\S/);
      if (!/^(?:else|return|assembly)\b/.test(code.slice(begin + skipped))) {
        yield { start: begin + skipped, end: at + 1, replacement: "", kind: "statement" };
      }
      begin = at + 1;
    }
  }
}

function* expressions(code, { start, end }) {
  const body = code.slice(start, end);
  for (const match of body.matchAll(/(?<=\s)(==|!=|<=|>=|\+=|-=|<<|>>|&&|\|\||[<>+\-*/|&])(?=\s)/g)) {
    for (const replacement of OPERATORS[match[1]]) yield at(match.index, match[1], replacement, "operator");
  }
  for (const match of body.matchAll(/\bif\s*\(/g)) {
    const open = start + match.index + match[0].length - 1;
    for (const replacement of ["(true)", "(false)"]) {
      yield { start: open, end: closing(code, open), replacement, kind: "condition" };
    }
  }
  for (const match of body.matchAll(/(?<![\w.])(?:0x[0-9a-f]+|[0-9][0-9_]*)(?![\w.])/gi)) {
    yield at(match.index, match[0], `(${match[0]} + 1)`.replace(/^\((.*) \+ 1\)$/, (_, n) => String(BigInt(n.replace(/_/g, "")) + 1n)), "number");
  }
  for (const match of body.matchAll(/\b(true|false)\b/g)) {
    yield at(match.index, match[0], match[0] === "true" ? "false" : "true", "boolean");
  }
  for (const match of body.matchAll(/!(?=[\w(])/g)) yield at(match.index, "!", "", "negation");

  function at(offset, original, replacement, kind) {
    return { start: start + offset, end: start + offset + original.length, replacement, kind };
  }
}

function* modifiers(code, { head, start }) {
  for (const match of code.slice(head, start).matchAll(/\b(?:onlyRole\(\w+\)|guarded)/g)) {
    yield { start: head + match.index, end: head + match.index + match[0].length, replacement: "", kind: "modifier" };
  }
}

function* constants(code) {
  for (const match of code.matchAll(/\bconstant\s+\w+\s*=\s*([0-9][0-9_]*)/g)) {
    const start = match.index + match[0].length - match[1].length;
    const next = String(BigInt(match[1].replace(/_/g, "")) + 1n);
    yield { start, end: start + match[1].length, replacement: next, kind: "number" };
  }
}

// All mutants of a source: the part from `start` to `end` is replaced.
exports.mutantsOf = function* mutantsOf(text) {
  const code = masked(text);
  yield* constants(code);
  for (const body of functionBodies(code)) {
    yield* modifiers(code, body);
    yield* statements(code, body);
    yield* expressions(code, body);
  }
};

exports.applied = (text, { start, end, replacement }) => text.slice(0, start) + replacement + text.slice(end);

// What all pages share: requests that change something, messages, and texts for people.

export const csrf = document.querySelector('meta[name="csrf"]').content;

/** Show a message at the bottom of the page; screen readers read it too. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

/** Send a POST with the fields of an object; resolves to the answer as JSON. */
export async function post(address, fields) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(fields),
  });
  if (!answer.ok) throw new Error(await readFault(answer));
  return answer.json();
}

/** Return the JSON at an address of the studio. */
export async function get(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(await readFault(answer));
  return answer.json();
}

/** Return the message of a page that says what went wrong. */
async function readFault(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector('[role="alert"], p')?.textContent ?? `The studio answered ${answer.status}.`;
}

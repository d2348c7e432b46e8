// Requests to the API. Changes carry the token in a header; it is asked for once and forgotten with the tab.

const TOKEN_KEY = "hoiclip-token";

export class ApiClient {
  constructor(dialog) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.question = null;
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.answer(this.form.elements.token.value.trim()); });
    dialog.querySelector("[data-do=cancel]").addEventListener("click", () => this.answer(null));
    // It comes late, when the dialog may be open again for the next question.
    dialog.addEventListener("close", () => { if (!dialog.open) this.answer(null); });
  }

  async get(path) { return this.read(await fetch(path)); }

  async change(method, path, body) {
    let token = sessionStorage.getItem(TOKEN_KEY) || await this.askToken("");
    for (;;) {
      const headers = { Authorization: `Bearer ${token}` };
      if (body !== undefined) headers["Content-Type"] = "application/json";
      const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
      if (response.status !== 401) {
        sessionStorage.setItem(TOKEN_KEY, token);
        return this.read(response);
      }
      sessionStorage.removeItem(TOKEN_KEY);
      token = await this.askToken("This token was refused.");
    }
  }

  // Throws an Error with the server's line.
  async read(response) {
    if (response.status === 204) return null;
    const data = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(data.error || `the server answered ${response.status}`);
    return data;
  }

  askToken(complaint) {
    if (this.question) return this.question.token;
    this.form.elements.token.value = "";
    showError(this.dialog, complaint);
    this.dialog.showModal();
    const question = {};
    question.token = new Promise((resolve, reject) => { Object.assign(question, { resolve, reject }); });
    this.question = question;
    return question.token;
  }

  // Ends the question, if there is one; null: without an answer.
  answer(token) {
    const question = this.question;
    this.question = null;
    this.dialog.close();
    if (token !== null) question?.resolve(token);
    else question?.reject(new Error("Changes need the token."));
  }
}

// The error line of a part of the page; an empty text hides it.
export function showError(root, text) {
  const line = root.querySelector(".error");
  line.textContent = text;
  line.hidden = !text;
}

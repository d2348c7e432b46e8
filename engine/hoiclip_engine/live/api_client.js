// Requests to the API. Changes carry the token in a header; it is asked for once and forgotten with the tab.

const TOKEN_KEY = "hoiclip-token";

export class ApiClient {
  constructor(dialog) {
    this.dialog = dialog;
    dialog.querySelector("[data-do=cancel]").addEventListener("click", () => dialog.close());
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
    const form = this.dialog.querySelector("form"), field = form.elements.token;
    field.value = "";
    showError(this.dialog, complaint);
    this.dialog.showModal();
    return new Promise((resolve, reject) => {
      const closed = () => { form.removeEventListener("submit", submitted); reject(new Error("Changes need the token.")); };
      const submitted = (event) => {
        event.preventDefault();
        this.dialog.removeEventListener("close", closed);
        this.dialog.close();
        resolve(field.value.trim());
      };
      form.addEventListener("submit", submitted, { once: true });
      this.dialog.addEventListener("close", closed, { once: true });
    });
  }
}

// The error line of a part of the page; an empty text hides it.
export function showError(root, text) {
  const line = root.querySelector(".error");
  line.textContent = text;
  line.hidden = !text;
}

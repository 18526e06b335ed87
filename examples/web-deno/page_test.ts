import { page } from "./page.ts";

Deno.test("the front page is there, others are not", () => {
  if (page("/").status !== 200) throw new Error("no front page");
  if (page("/nothing").status !== 404) throw new Error("a page from nowhere");
});

import { page } from "./page.ts";

Deno.serve({ port: 8000 }, (request) => page(new URL(request.url).pathname));

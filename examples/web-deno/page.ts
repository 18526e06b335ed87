export function page(path: string): Response {
  if (path === "/health") return new Response("ok\n");
  if (path === "/") return new Response("hello from deno\n");
  return new Response("not found\n", { status: 404 });
}

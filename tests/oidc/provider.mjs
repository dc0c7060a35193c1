// An OpenID Connect provider that somebody else wrote: `node provider.mjs FOLDER`, where npm has
// put it.  It prints its port; whoever signs in has the groups that the part behind the + names.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "package.json"));
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const root = "https://archive.example";

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [
      {
        client_id: "archive", client_secret: "of this client",
        redirect_uris: [`${root}/sign-in/oidc/callback`],
        post_logout_redirect_uris: [`${root}/sign-in`],
      },
      {
        client_id: "public", token_endpoint_auth_method: "none",
        redirect_uris: [`${root}/sign-in/oidc/callback`],
      },
    ],
    claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
    conformIdTokenClaims: process.argv[3] === "by-user-info",
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
    async findAccount(context, id) {
      const [name, ...groups] = id.split("+");
      return {
        accountId: id,
        claims: () => ({ sub: id, preferred_username: name, groups }),
      };
    },
  });
  server.on("request", provider.callback());
  console.log(port);
});

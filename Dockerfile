# The server, or a worker (`command: ["node", "dist/worker.js"]`); Postgres and Temporal are given by URL.
FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json tsconfig.json tsconfig.build.json ./
COPY bin bin
COPY src src
RUN npm ci --include=dev --no-audit --no-fund && npm run build && npm prune --omit=dev

FROM node:22-slim
ENV NODE_ENV=production ELECTRIC_AGENTS_LOG_FILE=false
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/bin bin
COPY --from=build /app/dist dist
USER node
EXPOSE 4437
CMD ["node", "bin/server.mjs"]

// Node's own modules for HTTP and TLS, loaded when they are first needed: a start is done sooner. An import of http makes Node load its
// WebSocket too, 50 ms for nothing.

export const http = () => process.getBuiltinModule('node:http')
export const https = () => process.getBuiltinModule('node:https')
export const tls = () => process.getBuiltinModule('node:tls')

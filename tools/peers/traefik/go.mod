module sluice/tools/peers/traefik

go 1.26.7

// tools/peers/get downloads this module, checks it against go.sum, and builds
// Traefik in a copy of it: only there do the replacements in its own go.mod hold.
require github.com/traefik/traefik/v3 v3.6.12

// Package imports holds no code of the product: its tests hold the tree to the
// rules of docs/DESIGN.md. Arrows between rooms point one way, only one room
// knows Consul's API, the rooms that decide do nothing else, and functions,
// files and package variables keep within their budgets.
package imports

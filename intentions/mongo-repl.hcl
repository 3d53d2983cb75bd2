# Who may open a connection to a member of the replica set as a fellow member.
Kind = "service-intentions"
Name = "mongo-repl"
Sources = [
  {
    Name        = "mongo-repl"
    Action      = "allow"
    Description = "Members replicate from each other and vote."
  },
]

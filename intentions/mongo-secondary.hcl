# Who may open a connection to a mongod that follows the one that takes writes.
Kind = "service-intentions"
Name = "mongo-secondary"
Sources = [
  {
    Name        = "web"
    Action      = "allow"
    Description = "The blog may read where the data is a little old."
  },
]

# Who may open a connection to the mongod that takes writes.
Kind = "service-intentions"
Name = "mongo-primary"
Sources = [
  {
    Name        = "web"
    Action      = "allow"
    Description = "The blog reads and writes its entries."
  },
]
